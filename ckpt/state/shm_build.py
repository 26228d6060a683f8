"""Rebuilding shared memory objects, in ckpt, before any task maps them."""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
from dataclasses import replace
from functools import partial

import numpy as np

from ckpt.errors import KernelError, RestoreError
from ckpt.kernel import ipc, mapped, uapi, uapi_ipc, uapi_restore
from ckpt.kernel.libc import kernel_error, syscall
from ckpt.records.ipc import SysvShmRecord
from ckpt.records.mm import ShmRecord
from ckpt.records.runs import PAGE_SIZE, U8, U64
from ckpt.state.context import RestoreContext
from ckpt.state.sysv import ensure_sysv, needs_filling

_SIZE_OF_PAGES = 0x3F << uapi.MAP_HUGE_SHIFT  # MAP_HUGE_*, MFD_HUGE_*
_KEEP_FLAGS = uapi_restore.MFD_HUGETLB | uapi_restore.MFD_NOEXEC_SEAL | _SIZE_OF_PAGES


def make_objects(context: RestoreContext) -> None:
    """Make and fill every shared memory object; `context.shared["shm_fds"]`: key -> descriptor in ckpt."""
    fds: dict[str, int] = context.shared.setdefault("shm_fds", {})
    segments: dict[int, SysvShmRecord] = {segment.shmid: segment for segment in context.view.records("sysv-shm")}
    records: dict[str, ShmRecord] = context.shared.setdefault("shm_records", {})
    for record in context.view.records("shm"):
        records[record.key] = record
        if record.kind == "sysv":
            _segment(context, record, segments[record.sysv_id])
            continue
        fds[record.key] = _make(context, record)
        context.stack.callback(_forget, fds, record.key)


def _forget(fds: dict[str, int], key: str) -> None:
    fd = fds.pop(key, -1)
    if fd >= 0:
        os.close(fd)


def _make(context: RestoreContext, record: ShmRecord) -> int:
    if record.kind == "memfd":
        return _memfd(context, record)
    if record.kind == "anon":
        return _anonymous(context, record)
    raise RestoreError(f"shared memory {record.key} is of kind {record.kind}, which ckpt cannot rebuild")


def _segment(context: RestoreContext, record: ShmRecord, segment: SysvShmRecord) -> None:
    """A SysV segment, which ckpt attaches for as long as it takes to fill it in."""
    huge = 0
    if record.flags & uapi_restore.MFD_HUGETLB:
        huge = uapi_ipc.SHM_HUGETLB | record.flags & _SIZE_OF_PAGES
    shmid = ensure_sysv(segment, context, huge)
    if needs_filling(context, shmid):
        size = -(-record.size // PAGE_SIZE) * PAGE_SIZE
        with ipc.attached(shmid) as address:
            _scatter(context, record, [np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))])


def open_segment(context: RestoreContext, key: str) -> bool:
    """Let `context.shared["shm_fds"]` have a descriptor of a SysV segment, too. False when there is no such one."""
    record: ShmRecord | None = context.shared.get("shm_records", {}).get(key)
    if record is None or record.kind != "sysv":
        return False
    size = -(-record.size // PAGE_SIZE) * PAGE_SIZE
    with ipc.attached(record.sysv_id) as start:
        context.shared["shm_fds"][key] = _open_mapped(start, size, key)
    context.stack.callback(_forget, context.shared["shm_fds"], key)
    return True


def _memfd(context: RestoreContext, record: ShmRecord) -> int:
    name = ctypes.create_string_buffer(os.fsencode(record.name))
    flags = record.flags & _KEEP_FLAGS | uapi_restore.MFD_CLOEXEC | uapi_restore.MFD_ALLOW_SEALING
    fd = syscall(f"memfd_create({record.name})", uapi.SYS_memfd_create, name, flags)
    try:
        size = -(-record.size // PAGE_SIZE) * PAGE_SIZE
        os.ftruncate(fd, size)
        # A mapping of huge pages reserves them all: one with nothing in it can be larger than this host.
        if record.size and (not record.flags & uapi_restore.MFD_HUGETLB or context.view.runs(record.key).total):
            with mmap.mmap(fd, size) as memory:
                os.ftruncate(fd, record.size)  # now: later it would clear what lies behind the end
                _fill(context, record, memory)
        if record.uid >= 0 and (record.uid, record.gid) != (os.getuid(), os.getgid()):
            os.fchown(fd, record.uid, record.gid)
        os.fchmod(fd, record.mode)
        for attribute, value in record.xattrs:
            os.setxattr(fd, attribute, value)
        if record.seals & uapi_restore.F_SEAL_WRITE:
            # Before the tasks map it, as it was with them: such a mapping can never be written, and one that could
            # be forbids the seal. The others wait for seal_objects.
            fcntl.fcntl(fd, uapi_restore.F_ADD_SEALS, uapi_restore.F_SEAL_WRITE)
    except OSError as error:
        os.close(fd)
        raise kernel_error(f"memfd {record.name} of {record.size} bytes", error.errno or 0) from None
    except BaseException:
        os.close(fd)
        raise
    if record.mtime_ns >= 0:
        context.when_finished(partial(os.utime, fd, ns=(record.atime_ns, record.mtime_ns)))  # to be mapped is an access
    return fd


def _anonymous(context: RestoreContext, record: ShmRecord) -> int:
    """MAP_SHARED|MAP_ANONYMOUS memory, held by a descriptor of its own through /proc/self/map_files.

    A user who may not follow that gives the tasks a memfd instead: /proc/PID/maps shows its name.
    """
    if not mapped.map_files_allowed():
        return _memfd(context, replace(record, kind="memfd", name="anonymous", mode=0o600))
    size = -(-record.size // PAGE_SIZE) * PAGE_SIZE
    flags = uapi.MAP_SHARED | uapi.MAP_ANONYMOUS | uapi.MAP_NORESERVE  # it may be larger than this host
    if record.flags & uapi_restore.MFD_HUGETLB:
        flags = flags & ~uapi.MAP_NORESERVE | uapi.MAP_HUGETLB | record.flags & _SIZE_OF_PAGES
    with mmap.mmap(-1, size, flags=flags) as memory:
        return _open_mapped(_fill(context, record, memory), size, record.key)


def _open_mapped(start: int, size: int, key: str) -> int:
    """A descriptor of what ckpt has mapped there."""
    try:
        return os.open(f"/proc/self/map_files/{start:x}-{start + size:x}", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        raise RestoreError(f"shared memory {key}: this kernel has no map_files") from None
    except OSError as error:
        raise kernel_error("opening /proc/self/map_files", error.errno or 0) from None


def _fill(context: RestoreContext, record: ShmRecord, memory: mmap.mmap) -> int:
    """Copy the object's pages into `memory`; gives its address."""
    held = [np.frombuffer(memory, np.uint8)]
    address = int(held[0].ctypes.data)
    try:
        _scatter(context, record, held)
    finally:
        held.clear()  # mmap cannot be closed while numpy looks at it
    return address


def _scatter(context: RestoreContext, record: ShmRecord, held: list[U8]) -> None:
    for _ in context.view.scatter(record.key, partial(_place, held)):
        pass


def _place(held: list[U8], pages: U64, data: memoryview) -> None:
    """On a thread: some pages to their places in the object, the first of `held`."""
    target, source = held[0], np.frombuffer(data, np.uint8).reshape(-1, PAGE_SIZE)
    target.reshape(-1, PAGE_SIZE)[pages] = source


def seal_objects(context: RestoreContext) -> None:
    """Add the seals of memfds, when everything that writes to them or maps them is done."""
    fds: dict[str, int] = context.shared.get("shm_fds", {})
    for record in context.view.records("shm"):
        if record.kind != "memfd" or not record.seals:
            continue
        try:
            fcntl.fcntl(fds[record.key], uapi_restore.F_ADD_SEALS, record.seals)
        except OSError as error:
            raise KernelError(
                f"sealing memfd {record.name} with {record.seals:#x}: {error.strerror}",
                errno=error.errno or 0,
            ) from None
