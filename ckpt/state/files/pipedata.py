"""What waits in a pipe: copied by tee(2), which takes nothing out, and written into a new one.

A pipe is full when its buffers are used up, whatever they hold: a write goes on in the last buffer only when all of it
fits there. Buffers that are not full are therefore made again one by one (vmsplice), so that a full pipe stays full.
"""

from __future__ import annotations

import array
import ctypes
import errno
import fcntl
import heapq
import mmap
import os
import socket
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial

from ckpt.errors import KernelError
from ckpt.kernel import uapi, uapi_files
from ckpt.kernel.descriptors import open_magic
from ckpt.kernel.libc import syscall

_FRAGMENTS = [8 * uapi.PAGE_SIZE, 4 * uapi.PAGE_SIZE, 2 * uapi.PAGE_SIZE, uapi.PAGE_SIZE]  # the largest of a socket, …


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
    """Fill an empty pipe; OSError when that may not be.

    A buffer that was spliced from a socket has as much as a fragment of the socket's, up to 32 KiB, so that a pipe may
    hold more than its size. Only where no memory of such a size is left it is enlarged.
    """
    if packets:
        fcntl.fcntl(fd, fcntl.F_SETFL, os.O_NONBLOCK | os.O_DIRECT)
    if apart:
        if max(len(chunk) for chunk in chunks) > uapi.PAGE_SIZE:
            chunks = _cut(b"".join(chunks), len(chunks))
        written = len(chunks) - (len(chunks[-1]) <= uapi.PAGE_SIZE)
        _splice(fd, chunks[:written])
        chunks = chunks[written:]
    for chunk in chunks:
        view = memoryview(chunk)
        while view:
            view = view[_with_room(fd, os.write, fd, view) :]


def _with_room(fd: int, call: Callable[..., int], *args: object) -> int:
    while True:
        try:
            return call(*args)
        except BlockingIOError:
            fcntl.fcntl(fd, uapi_files.F_SETPIPE_SZ, 2 * fcntl.fcntl(fd, uapi_files.F_GETPIPE_SZ))


def _cut(data: bytes, count: int) -> list[bytes]:
    """`count` pieces, each of 2, 4 or 8 pages or at most one; more where so few cannot hold it all."""
    sizes, left = [], len(data)
    for size in _FRAGMENTS:
        sizes += [size] * (left // size)
        left %= size
    sizes += [left] if left else []
    heap = [-size for size in sizes]
    heapq.heapify(heap)
    while len(heap) < count and heap[0] < -1:
        size = -heapq.heappop(heap)
        heapq.heappush(heap, -(size // 2))
        heapq.heappush(heap, size // 2 - size)
    pieces, at = [], 0
    for size in sorted((-size for size in heap), reverse=True):
        pieces.append(data[at : at + size])
        at += size
    return pieces


def _splice(fd: int, chunks: Sequence[bytes]) -> None:
    """One buffer for each chunk. The pipe keeps the pages, which nobody else has when they are unmapped here."""
    area = mmap.mmap(-1, max(len(chunks), 1) * uapi.PAGE_SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    address = ctypes.addressof(ctypes.c_char.from_buffer(area))
    ends = socket.socketpair()
    try:
        for at, chunk in zip(range(0, len(area), uapi.PAGE_SIZE), chunks, strict=False):
            if len(chunk) > uapi.PAGE_SIZE:
                _fragment(fd, chunk, *ends)
                continue
            area[at : at + len(chunk)] = chunk
            vector = (ctypes.c_uint64 * 2)(address + at, len(chunk))  # struct iovec
            _with_room(fd, _vmsplice, fd, vector)
    finally:
        area.close()
        for end in ends:
            end.close()


def _vmsplice(fd: int, vector: ctypes.Array[ctypes.c_uint64]) -> int:
    try:
        return syscall("vmsplice", uapi_files.SYS_vmsplice, fd, vector, 1, uapi_files.SPLICE_F_NONBLOCK)
    except KernelError as error:
        raise OSError(error.errno, error.message) from None


def _fragment(fd: int, chunk: bytes, sender: socket.socket, receiver: socket.socket) -> None:
    """A Unix socket takes two, four or eight pages as one fragment where it finds memory in one piece."""
    sender.sendall(chunk)
    left = len(chunk)
    while left:
        left -= _with_room(fd, partial(os.splice, flags=os.SPLICE_F_NONBLOCK), receiver.fileno(), fd, left)
