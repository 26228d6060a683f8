"""Protection keys: which an address space has been given, and which its mappings have."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from contextlib import suppress

from ckpt.errors import HostMismatch, KernelError
from ckpt.kernel import ptrace_requests as ptrace
from ckpt.kernel import uapi, xfeatures
from ckpt.kernel.procfs import MapsLine
from ckpt.records.mm import MmRecord
from ckpt.records.seams import LiveTask, RemoteTask
from ckpt.state.mm_modes import hole
from ckpt.state.rebuild import rebuilding

_KEYS = range(1, 16)  # 0 is every mapping's
_INIT_PKRU = 0x55555554  # a new program is denied all but the first; pkey_alloc opens one for its caller
_ANONYMOUS = (1 << 64) - 1


def collect_keys(remote: LiveTask, tids: Sequence[int], lines: Sequence[MapsLine]) -> int:
    """The keys that pkey_alloc has given, a bit each; asked for only when something shows that there are any.

    pkey_mprotect looks at the key before it finds that there is no mapping: EINVAL or ENOMEM, and nothing done.
    """
    if not xfeatures.protection_keys():
        return 0
    if not any(line.pkey for line in lines) and all(_untouched(tid) for tid in tids):
        return 0
    keys, nowhere = 0, hole(lines)
    for key in _KEYS:
        try:
            remote.syscall(uapi.SYS_pkey_mprotect, nowhere, uapi.PAGE_SIZE, 0, key)
        except KernelError as error:
            keys |= (error.errno == errno.ENOMEM) << key
    return keys


def _untouched(tid: int) -> bool:
    try:
        return xfeatures.pkru(ptrace.getregset(tid, uapi.NT_X86_XSTATE)) == _INIT_PKRU
    except KernelError:
        return True  # it waits in vfork: its mappings tell


def execute_only(mm: MmRecord) -> int:
    """The key that the kernel took by itself for PROT_EXEC alone, which nobody else may use; 0 if there is none."""
    for vma in mm.vmas:
        if vma.pkey and vma.prot == uapi.PROT_EXEC and not mm.pkeys >> vma.pkey & 1:
            return vma.pkey
    return 0


def _highest(mm: MmRecord | None) -> int:
    if mm is None:
        return 0
    return max([mm.pkeys.bit_length() - 1, 0, *(vma.pkey for vma in mm.vmas)])


def reserve_keys(task: RemoteTask, mm: MmRecord) -> None:
    """Every key up to the highest one, for they are given in their order; before anything is mapped."""
    highest, own = _highest(mm), execute_only(mm)
    if not highest:
        return
    if not xfeatures.protection_keys():
        raise HostMismatch(f"task {task.pid} uses protection keys, which this CPU has not")
    with rebuilding(task.pid, "protection keys"):
        key = 0
        while key < highest:
            try:
                key = task.syscall(uapi.SYS_pkey_alloc, 0, 0)
            except KernelError as error:
                if error.errno != errno.ENOSPC:
                    raise
                break  # it has all of them, from the task it was cloned from
        if key > highest:
            task.syscall(uapi.SYS_pkey_free, key)
        if own:
            with suppress(KernelError):  # EINVAL: the task it was cloned from has it as such
                task.syscall(uapi.SYS_pkey_free, own)
            flags = uapi.MAP_PRIVATE | uapi.MAP_ANONYMOUS
            page = task.syscall(uapi.SYS_mmap, 0, uapi.PAGE_SIZE, uapi.PROT_EXEC, flags, _ANONYMOUS, 0)
            task.syscall(uapi.SYS_munmap, page, uapi.PAGE_SIZE)


def release_keys(task: RemoteTask, mm: MmRecord, donor: MmRecord | None) -> None:
    """Those that were reserved for the others' sake; `donor`: whose keys the task was cloned with."""
    own = execute_only(mm)
    for key in range(1, max(_highest(mm), _highest(donor)) + 1):
        if not mm.pkeys >> key & 1 and key != own:
            with suppress(KernelError):  # given to none
                task.syscall(uapi.SYS_pkey_free, key)
