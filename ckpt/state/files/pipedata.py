"""What waits in a pipe: copied by tee(2), which takes nothing out, and written into a new one.

A pipe is full when its buffers are used up, whatever they hold: a write goes on in the last buffer only when all of it
fits there. Buffers that are not full are therefore made again one by one (vmsplice), so that a full pipe stays full.
"""

from __future__ import annotations

import array
import ctypes
import errno
import fcntl
import mmap
import os
from collections.abc import Sequence
from contextlib import ExitStack

from ckpt.errors import KernelError
from ckpt.kernel import uapi, uapi_files
from ckpt.kernel.descriptors import open_magic
from ckpt.kernel.libc import syscall


def waiting(fd: int) -> int:
    """Bytes that wait to be read."""
    count = array.array("i", [0])
    fcntl.ioctl(fd, uapi_files.FIONREAD, count)
    return count[0]


def peek(name: str, stolen: int, capacity: int, total: int) -> tuple[list[bytes], bool]:
    """(chunks, whether each stands in a buffer of its own): one chunk of a plain stream, one for each packet."""
    with ExitStack() as stack:
        chunks = []
        copy = _copy(name, stolen, capacity, total, stack)
        left = total
        while left:
            chunks.append(os.read(copy, left))
            left -= len(chunks[-1])
        if len(chunks) > 1:
            return chunks, False
        buffers = _buffers(_copy(name, stolen, capacity, total, stack), total, stack)
        apart = any(len(buffer) != uapi.PAGE_SIZE for buffer in buffers[:-1])
        return (buffers, True) if apart else (chunks, False)


def _copy(name: str, stolen: int, capacity: int, total: int, stack: ExitStack) -> int:
    """The reading end of a pipe with the same buffers."""
    reader = open_magic(f"/proc/self/fd/{stolen}", os.O_RDONLY | os.O_NONBLOCK)
    stack.callback(os.close, reader)
    copy_out, copy_in = _pipe(capacity, stack)
    copied = syscall(f"tee({name})", uapi_files.SYS_tee, reader, copy_in, total, uapi_files.SPLICE_F_NONBLOCK)
    if copied != total:
        raise KernelError(f"tee copied {copied} of the {total} bytes in {name}", errno=errno.EIO)
    return copy_out


def _pipe(capacity: int, stack: ExitStack) -> tuple[int, int]:
    ends = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    for fd in ends:
        stack.callback(os.close, fd)
    fcntl.fcntl(ends[1], uapi_files.F_SETPIPE_SZ, capacity)
    return ends


def _buffers(copy: int, total: int, stack: ExitStack) -> list[bytes]:
    """The contents buffer by buffer: a pipe with room for one takes one."""
    out, into = _pipe(uapi.PAGE_SIZE, stack)
    buffers = []
    while total:
        got = syscall("splice", uapi_files.SYS_splice, copy, 0, into, 0, total, uapi_files.SPLICE_F_NONBLOCK)
        buffers.append(os.read(out, got))
        total -= got
    return buffers


def put(fd: int, chunks: Sequence[bytes], *, packets: bool, apart: bool) -> None:
    """Fill an empty pipe, and enlarge it where it holds more than its size. OSError when that may not be.

    A buffer that was spliced from a socket has as much as a fragment of the socket's, up to 32 KiB; no other call makes
    one of more than a page.
    """
    if packets:
        fcntl.fcntl(fd, fcntl.F_SETFL, os.O_NONBLOCK | os.O_DIRECT)
    if apart and all(len(chunk) <= uapi.PAGE_SIZE for chunk in chunks):
        _splice(fd, chunks[:-1])
        chunks = chunks[-1:]
    for chunk in chunks:
        view = memoryview(chunk)
        while view:
            try:
                view = view[os.write(fd, view) :]
            except BlockingIOError:
                fcntl.fcntl(fd, uapi_files.F_SETPIPE_SZ, 2 * fcntl.fcntl(fd, uapi_files.F_GETPIPE_SZ))


def _splice(fd: int, chunks: Sequence[bytes]) -> None:
    """One buffer for each chunk. The pipe keeps the pages, which nobody else has when they are unmapped here."""
    area = mmap.mmap(-1, len(chunks) * uapi.PAGE_SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for number, chunk in enumerate(chunks):
        area[number * uapi.PAGE_SIZE : number * uapi.PAGE_SIZE + len(chunk)] = chunk
    address = ctypes.addressof(ctypes.c_char.from_buffer(area))
    try:
        for number, chunk in enumerate(chunks):
            vector = (ctypes.c_uint64 * 2)(address + number * uapi.PAGE_SIZE, len(chunk))  # struct iovec
            syscall("vmsplice", uapi_files.SYS_vmsplice, fd, vector, 1, uapi_files.SPLICE_F_NONBLOCK)
    except KernelError as error:
        raise OSError(error.errno, error.message) from None
    finally:
        area.close()
