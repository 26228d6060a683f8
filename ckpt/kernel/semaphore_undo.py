"""SEM_UNDO: what a task's end would do to SysV semaphores, which no interface shows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ckpt.errors import KernelError
from ckpt.kernel import uapi
from ckpt.kernel.btf import kernel_types
from ckpt.kernel.descriptors import kcmp
from ckpt.kernel.held import task_of
from ckpt.kernel.kernel_memory import KernelMemory

_LIMIT = 1 << 16  # sets beyond which something is wrong


def owners(pid: int, tids: Sequence[int]) -> list[int]:
    """One living thread for each list of a process, the one that most threads have first: unshare(CLONE_SYSVSEM)."""
    lists: list[list[int]] = []
    for tid in tids:
        for other in lists:
            if kcmp(other[0], tid, uapi.KCMP_SYSVSEM) == 0:
                other.append(tid)
                break
        else:
            lists.append([tid])
    return [one[0] for one in sorted(lists, key=len, reverse=True)]


def adjustments(
    owners: Iterable[tuple[int, int]], sizes: dict[int, int]
) -> tuple[dict[tuple[int, int], tuple[int, ...]], dict[int, int]]:
    """(tid, semid) -> what is added to each semaphore when the list's tasks have ended, where that is not nothing;
    and tid -> the one before it that has the same list.

    `owners`: pid and a living thread; `sizes`: semid -> the number of its semaphores. Unsupported where the kernel's
    memory cannot be read.
    """
    types = kernel_types()
    found = {}
    lists: dict[int, int] = {}
    same = {}
    with KernelMemory() as memory:
        for pid, tid in owners:
            undo_list = memory.u64(task_of(memory, pid, tid) + types.offset("task_struct", "sysvsem", "undo_list"))
            if not undo_list:
                continue
            if undo_list in lists:
                same[tid] = lists[undo_list]
                continue
            lists[undo_list] = tid
            head = undo_list + types.offset("sem_undo_list", "list_proc")
            node = memory.u64(head)
            for _ in range(_LIMIT):
                if node == head:
                    break
                undo = node - types.offset("sem_undo", "list_proc")
                semid = memory.u32(undo + types.offset("sem_undo", "semid"))
                values = _values(memory, undo, sizes[semid]) if semid in sizes else ()
                if any(values):
                    found[tid, semid] = values
                node = memory.u64(node)
            else:
                raise KernelError("a list in the kernel's memory has no end")
    return found, same


def _values(memory: KernelMemory, undo: int, count: int) -> tuple[int, ...]:
    """semadj: shorts at the end of the structure, or, in older kernels, a pointer (which is aligned) to them."""
    offset = kernel_types().offset("sem_undo", "semadj")
    at = undo + offset if offset % 8 else memory.u64(undo + offset)
    data = memory.read(at, 2 * count)
    return tuple(int.from_bytes(data[i : i + 2], "little", signed=True) for i in range(0, len(data), 2))
