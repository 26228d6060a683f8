"""The room that a restore needs in the address spaces it builds: a block of addresses, and some mappings more."""

from __future__ import annotations

from collections.abc import Sequence

from ckpt.errors import HostMismatch, Refusal, RestoreError
from ckpt.kernel import procfs, uapi
from ckpt.records.mm import MmRecord
from ckpt.records.support import Support

SUPPORT = Support("memory", "address spaces", "of any size, with as many mappings as there may be but for 8")

LOWEST = 0x10_0000
HIGHEST = 0x7000_0000_0000  # above it are the stack and the vdso of what a skeleton executes
_MARGIN = 2 << 20  # more than the gap that the kernel keeps below a growing stack
_MAPPINGS = 8  # those of the skeleton, and what mremap wants to have left
_VSYSCALL = "[vsyscall]"  # which the kernel does not count


def free_block(mms: Sequence[MmRecord], size: int) -> int:
    """An address at which `size` bytes are free in every mm, with a margin around them where there is room for one."""
    at = _find(mms, size, _MARGIN, 1 << 20)
    if at is None:
        at = _find(mms, size, uapi.PAGE_SIZE, uapi.PAGE_SIZE)
    if at is None:
        raise RestoreError(
            "no address is free in every task of the tree for the code that rebuilds it",
            hint="dump the tree again when a task has unmapped something",
        )
    return at


def _find(mms: Sequence[MmRecord], size: int, margin: int, step: int) -> int | None:
    at = LOWEST
    for start, end in sorted((vma.start, vma.end) for mm in mms for vma in mm.vmas):
        if start >= at + size + margin:
            break
        at = max(at, (end + margin + step - 1) & -step)
    return at if at + size + margin <= HIGHEST else None


def refusals(mms: Sequence[MmRecord], size: int) -> list[Refusal]:
    """At a dump: what a restore would have no room for. `size`: as for `free_block`."""
    found, most = [], procfs.max_map_count()
    if mms and _find(mms, size, uapi.PAGE_SIZE, uapi.PAGE_SIZE) is None:
        reason = f"leaves fewer addresses free below {HIGHEST:#x} than a restore needs ({size >> 10} KiB)"
        found.append(Refusal(mms[0].mm_id, "address space", reason, "let it unmap something"))
    for mm in mms:
        if mappings(mm) > most:
            reason = f"has nearly all of the {most} mappings of vm.max_map_count; a restore needs {_MAPPINGS} itself"
            found.append(Refusal(mm.mm_id, "address space", reason, f"sysctl vm.max_map_count={2 * most}"))
    return found


def check_mappings(mms: Sequence[MmRecord]) -> None:
    """Before a restore: whether this host allows as many. HostMismatch."""
    most = procfs.max_map_count()
    for mm in mms:
        if mappings(mm) > most:
            raise HostMismatch(
                f"task {mm.mm_id} needs {mappings(mm)} mappings to be rebuilt, and this host allows {most} "
                "(vm.max_map_count)",
                hint=f"sysctl vm.max_map_count={2 * mappings(mm)}",
            )


def mappings(mm: MmRecord) -> int:
    """How many an address space has while it is rebuilt, at most."""
    return sum(vma.name != _VSYSCALL for vma in mm.vmas) + _MAPPINGS
