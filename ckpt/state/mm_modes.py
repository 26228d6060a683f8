"""What an address space does with mappings to come: mlockall(MCL_FUTURE), PR_SET_MEMORY_MERGE; and membarrier."""

from __future__ import annotations

import errno
from collections.abc import Sequence

from ckpt.errors import KernelError
from ckpt.kernel import lock_flags, procfs, uapi, uapi_restore
from ckpt.kernel import uapi_pagemap as up
from ckpt.kernel import uapi_state as us
from ckpt.kernel.pagemap import Pagemap
from ckpt.kernel.procfs import MapsLine
from ckpt.records.mm import MmRecord, Vma
from ckpt.records.seams import LiveTask, RemoteTask
from ckpt.state.rebuild import rebuilding

MEMBARRIER_CMD_GET_REGISTRATIONS = 512  # include/uapi/linux/membarrier.h, 6.3
_ANONYMOUS = (1 << 64) - 1
_LOWEST = 1 << 20  # far above what vm.mmap_min_addr forbids


def collect_lock_future(remote: LiveTask, maps: Sequence[MapsLine]) -> int | None:
    """MCL_FUTURE and MCL_ONFAULT as mlockall set them: told by a page mapped for a moment, for nothing shows them.
    None when they cannot be known.

    In a hole between the mappings: should ckpt die, the thread knows what to unmap.
    """
    before = _locked(remote)
    page = hole(maps)
    flags = uapi.MAP_PRIVATE | uapi.MAP_ANONYMOUS | uapi.MAP_FIXED_NOREPLACE
    with remote.through(uapi.SYS_munmap, page, uapi.PAGE_SIZE):
        try:
            remote.syscall(uapi.SYS_mmap, page, uapi.PAGE_SIZE, uapi.PROT_READ, flags, _ANONYMOUS, 0)
        except KernelError as error:
            return _lock_future_unasked(remote, error, before)
        try:
            if _locked(remote) == before:
                return 0
            with Pagemap(remote.pid) as pagemap:
                present = pagemap.entry(page // uapi.PAGE_SIZE) & up.PM_PRESENT
            return uapi.MCL_FUTURE if present else uapi.MCL_FUTURE | uapi.MCL_ONFAULT
        finally:
            remote.syscall(uapi.SYS_munmap, page, uapi.PAGE_SIZE)


def _lock_future_unasked(remote: RemoteTask, error: KernelError, locked: str) -> int | None:
    """When not a page more can be mapped: EAGAIN by RLIMIT_MEMLOCK, as it would be locked; ENOMEM by RLIMIT_AS."""
    try:
        return lock_flags.to_come(remote.pid, remote.tid)
    except KernelError:
        pass  # without the right to read the kernel's memory, or Unsupported
    if error.errno == errno.EAGAIN:
        return uapi.MCL_FUTURE
    return None if error.errno == errno.ENOMEM and locked.split()[:1] != ["0"] else 0


def hole(maps: Sequence[MapsLine]) -> int:
    """The middle of the largest hole of an address space, far from what may grow into it."""
    below = [line for line in maps if line.start < uapi.TASK_SIZE_MAX]  # all but [vsyscall]
    ends = [_LOWEST, *(line.end for line in below)]
    starts = [*(line.start for line in below), uapi.TASK_SIZE_MAX]
    size, start = max((after - before, before) for before, after in zip(ends, starts, strict=True))
    return (start + size // 2) // uapi.PAGE_SIZE * uapi.PAGE_SIZE


def _locked(remote: RemoteTask) -> str:
    return procfs.status(remote.pid, remote.tid).get("VmLck", "")


def collect_merge_any(remote: RemoteTask, vmas: Sequence[Vma]) -> bool:
    """PR_GET_MEMORY_MERGE (Linux 6.4); whoever set it has mergeable mappings."""
    if not any("mg" in vma.vm_flags for vma in vmas):
        return False
    try:
        return bool(remote.syscall(uapi.SYS_prctl, uapi_restore.PR_GET_MEMORY_MERGE, 0, 0, 0, 0))
    except KernelError:
        return False


def collect_membarrier(remote: RemoteTask) -> int:
    """The commands the address space is registered for."""
    try:
        return remote.syscall(uapi.SYS_membarrier, MEMBARRIER_CMD_GET_REGISTRATIONS, 0, 0)
    except KernelError:
        return 0  # before 6.3 they cannot be read


def collect_futex_slots(remote: RemoteTask, threads: int) -> int:
    """The size of its own futex hash, 0 when it uses the kernel's. One thread alone has hardly ever one."""
    if threads < 2:
        return -1
    try:
        return remote.syscall(uapi.SYS_prctl, us.PR_FUTEX_HASH, us.PR_FUTEX_HASH_GET_SLOTS, 0, 0, 0)
    except KernelError:
        return -1  # before 6.16 there is none


def _restore_futex_slots(remote: RemoteTask, slots: int) -> None:
    """The kernel has made one by the number of threads; another size is the task's own wish."""
    if slots >= 0 and collect_futex_slots(remote, 2) not in (-1, slots):
        with rebuilding(remote.pid, "PR_FUTEX_HASH"):
            remote.syscall(uapi.SYS_prctl, us.PR_FUTEX_HASH, us.PR_FUTEX_HASH_SET_SLOTS, slots, 0, 0)


def restore_modes(remote: RemoteTask, mm: MmRecord) -> None:
    """When every mapping stands; what is mapped from here on is locked and mergeable."""
    for bit in range(32):
        if mm.membarrier >> bit & 1:
            remote.syscall(uapi.SYS_membarrier, 1 << bit, 0, 0)
    _restore_futex_slots(remote, mm.futex_slots)
    if mm.merge_any:
        with rebuilding(remote.pid, "PR_SET_MEMORY_MERGE"):
            remote.syscall(uapi.SYS_prctl, uapi_restore.PR_SET_MEMORY_MERGE, 1, 0, 0, 0)
        for vma in mm.vmas:
            if vma.backing != "special" and "mg" not in vma.vm_flags:
                _never_merge(remote, vma)
    if mm.lock_future:
        with rebuilding(remote.pid, "mlockall"):
            remote.syscall(uapi_restore.SYS_mlockall, mm.lock_future)


def _never_merge(remote: RemoteTask, vma: Vma) -> None:
    try:
        remote.syscall(uapi.SYS_madvise, vma.start, vma.end - vma.start, uapi.MADV_UNMERGEABLE)
    except KernelError as error:
        if error.errno not in (errno.EINVAL, errno.EPERM):  # sealed
            raise
