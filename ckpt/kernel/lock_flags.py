"""How an address space locks mappings to come, in the kernel's memory: `def_flags` of struct mm_struct."""

from __future__ import annotations

from ckpt.kernel import uapi
from ckpt.kernel.btf import kernel_types
from ckpt.kernel.held import task_of
from ckpt.kernel.kernel_memory import KernelMemory

_VM_LOCKED, _VM_LOCKONFAULT = 0x2000, 0x80000  # include/linux/mm.h


def to_come(pid: int, tid: int) -> int:
    """MCL_FUTURE and MCL_ONFAULT as mlockall set them. Unsupported and KernelError as in `kernel_memory`."""
    types = kernel_types()
    with KernelMemory() as memory:
        mm = memory.u64(task_of(memory, pid, tid) + types.offset("task_struct", "mm"))
        flags = memory.u64(mm + types.offset("mm_struct", "def_flags"))
    if not flags & _VM_LOCKED:
        return 0
    return uapi.MCL_FUTURE | (uapi.MCL_ONFAULT if flags & _VM_LOCKONFAULT else 0)
