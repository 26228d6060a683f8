"""How many requests of Linux AIO are under way, which no call tells. Source: fs/aio.c."""

from __future__ import annotations

from ckpt.kernel.btf import kernel_types
from ckpt.kernel.held import task_of
from ckpt.kernel.kernel_memory import KernelMemory

_MOST = 1 << 16  # contexts


class Contexts:
    """The contexts of a frozen task; one of its threads that has not ended is asked for."""

    def __init__(self, memory: KernelMemory, pid: int, tid: int) -> None:
        types = kernel_types()
        self._memory = memory
        mm = memory.u64(task_of(memory, pid, tid) + types.offset("task_struct", "mm"))
        table = memory.u64(mm + types.offset("mm_struct", "ioctx_table")) if mm else 0
        count = memory.u32(table + types.offset("kioctx_table", "nr")) if table else 0
        first = table + types.offset("kioctx_table", "table")
        self._contexts = [one for at in range(min(count, _MOST)) if (one := memory.u64(first + 8 * at))]

    def under_way(self) -> dict[int, int]:
        """Context id -> requests that the kernel has taken and not completed, where there are any.

        Of its room for requests a context keeps a part for all and a part for each CPU; what is in neither is taken by
        requests under way, or by events that have completed and were not counted back yet.
        """
        memory, types = self._memory, kernel_types()
        found = {}
        for one in self._contexts:
            free = memory.u32(one + types.offset("kioctx", "reqs_available"))
            for place in memory.percpu(memory.u64(one + types.offset("kioctx", "cpu"))):
                free += memory.u32(place + types.offset("kioctx_cpu", "reqs_available"))
            room = memory.u32(one + types.offset("kioctx", "nr_events")) - 1
            if count := room - free - memory.u32(one + types.offset("kioctx", "completed_events")):
                found[memory.u64(one + types.offset("kioctx", "user_id"))] = count
        return found
