"""Who may be writing into an address space past its page tables, as the kernel's memory tells it and /proc does not.

A call that writes to another task's memory (process_vm_writev, a write to /proc/PID/mem) holds that address space from
before it pins a page until after it has let go of it: `mm_users` is then more than the threads that live in it. A ring
of io_uring is in its thread's table until its last request has completed, also when its descriptor is closed and its
memory unmapped; a context of Linux AIO in that of the address space. Sources: mm/process_vm_access.c, io_uring/tctx.c,
fs/aio.c.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Iterable

from ckpt.errors import KernelError, NoSuchTask
from ckpt.kernel import uapi_bpf as ub
from ckpt.kernel.bpf import insn
from ckpt.kernel.btf import kernel_types
from ckpt.kernel.held import task_of
from ckpt.kernel.kernel_memory import KernelMemory

_FOUND = struct.Struct("<6Q")  # mm_users, threads, mm, a ring's node, the next thread, the table of AIO's contexts
_USERS, _THREADS, _MM, _RING, _NEXT, _TABLE = range(0, _FOUND.size, 8)
_MOST = 64  # threads that one run looks at
_CONTEXTS = 1 << 12
_PATIENCE = 0.0003  # seconds, of the freeze: whoever looks at a task's /proc holds its memory for a moment

ANOTHER = (
    "another process held this memory in the last round (process_vm_writev, say), and no dirty bit shows its writes"
)
URING = "requests of an io_uring may have been under way in the last round, which no dirty bit shows"
AIO = "reads by Linux AIO may have been under way in the last round, which no dirty bit shows"


def _program(map_fd: int) -> bytes:
    """(task, node) in the context: the threads of its process from `node` on, or all for 0; see _FOUND."""
    types = kernel_types()
    node = types.offset("task_struct", "thread_node")
    code: list[tuple[int, int, int, int | str, int] | str] = []

    def add(op: int, dst: int = 0, src: int = 0, off: int | str = 0, imm: int = 0) -> None:
        code.append((op, dst, src, off, imm))

    def read(register: int, offset: int) -> None:
        """The eight bytes at an address go to R0."""
        add(ub.MOV_X, ub.R3, register)
        add(ub.ADD_K, ub.R3, imm=offset)
        add(ub.MOV_X, ub.R1, ub.R10)
        add(ub.ADD_K, ub.R1, imm=-8)
        add(ub.MOV_K, ub.R2, imm=8)
        add(ub.CALL, imm=ub.BPF_FUNC_probe_read_kernel)
        add(ub.JNE_K, ub.R0, off="failed")
        add(ub.LDX_DW, ub.R0, ub.R10, -8)

    add(ub.LD_IMM64, ub.R6, ub.BPF_PSEUDO_MAP_VALUE, imm=map_fd)
    add(0)
    add(ub.LDX_DW, ub.R8, ub.R1, 0)
    add(ub.LDX_DW, ub.R7, ub.R1, 8)
    add(ub.MOV_K, ub.R0)
    for at in range(0, _FOUND.size, 8):
        add(ub.STX_DW, ub.R6, ub.R0, at)
    read(ub.R8, types.offset("task_struct", "signal"))
    add(ub.MOV_X, ub.R8, ub.R0)
    add(ub.ADD_K, ub.R8, imm=types.offset("signal_struct", "thread_head"))
    add(ub.JNE_K, ub.R7, off="begun")
    read(ub.R8, 0)
    add(ub.MOV_X, ub.R7, ub.R0)
    code.append("begun")
    add(ub.MOV_K, ub.R9)
    code.append("thread")
    add(ub.JEQ_X, ub.R7, ub.R8, "last")
    read(ub.R7, types.offset("task_struct", "mm") - node)
    add(ub.JEQ_K, ub.R0, off="next")  # it has ended, and its requests have
    add(ub.STX_DW, ub.R6, ub.R0, _MM)
    add(ub.LDX_DW, ub.R1, ub.R6, _THREADS)
    add(ub.ADD_K, ub.R1, imm=1)
    add(ub.STX_DW, ub.R6, ub.R1, _THREADS)
    read(ub.R7, types.offset("task_struct", "io_uring") - node)
    add(ub.JEQ_K, ub.R0, off="next")
    read(ub.R0, types.offset("io_uring_task", "xa", "xa_head"))
    add(ub.JEQ_K, ub.R0, off="next")
    add(ub.STX_DW, ub.R6, ub.R0, _RING)
    code.append("next")
    read(ub.R7, 0)
    add(ub.MOV_X, ub.R7, ub.R0)
    add(ub.ADD_K, ub.R9, imm=1)
    add(ub.JNE_K, ub.R9, off="thread", imm=_MOST)
    add(ub.STX_DW, ub.R6, ub.R7, _NEXT)
    code.append("last")
    add(ub.LDX_DW, ub.R7, ub.R6, _MM)
    add(ub.JEQ_K, ub.R7, off="done")
    read(ub.R7, types.offset("mm_struct", "ioctx_table"))
    add(ub.STX_DW, ub.R6, ub.R0, _TABLE)
    read(ub.R7, types.offset("mm_struct", "mm_users"))
    add(ub.STX_DW, ub.R6, ub.R0, _USERS)
    code.append("done")
    add(ub.MOV_K, ub.R0)
    add(ub.EXIT)
    code.append("failed")
    add(ub.EXIT)
    return _assembled(code)


def _assembled(code: list[tuple[int, int, int, int | str, int] | str]) -> bytes:
    places: dict[str, int] = {}
    lines: list[tuple[int, int, int, int | str, int]] = []
    for line in code:
        if isinstance(line, str):
            places[line] = len(lines)
        else:
            lines.append(line)
    return b"".join(
        insn(op, dst, src, places[off] - at - 1 if isinstance(off, str) else off, imm)
        for at, (op, dst, src, off, imm) in enumerate(lines)
    )


class Writers:
    """The way to ask; KernelError (Unsupported) when this kernel or user has none."""

    def __init__(self) -> None:
        self.memory = KernelMemory()
        self._tasks: dict[int, int] = {}  # task_struct by pid
        try:
            self._ask = self.memory.add(_program)
        except BaseException:
            self.memory.close()
            raise

    def close(self) -> None:
        """Leave nothing open."""
        self.memory.close()

    def meet(self, pid: int) -> None:
        """Before the freeze: look for a task, and ask a first time."""
        try:
            self._tasks[pid] = task_of(self.memory, pid, pid)
            if self._process(self._tasks[pid])[3]:
                self.memory.percpu(0)  # for state/aio.py: what is slow the first time
        except (KernelError, NoSuchTask):
            self._tasks.pop(pid, None)

    def why(self, pids: Iterable[int]) -> str | None:
        """Why pages may be written unseen from now on; None when nobody can, or when it cannot be told.

        `pids`: all the processes of one address space, frozen and met before.
        """
        try:
            return self._why([self._tasks[pid] for pid in pids])
        except (KernelError, KeyError):
            return None

    def ring(self, pid: int) -> bool | None:
        """Whether a ring of io_uring belongs to a thread of a frozen task, or has requests under way for it; None when
        it cannot be told."""
        try:
            return bool(self._process(self._tasks[pid])[2])
        except (KernelError, KeyError):
            return None

    def _why(self, tasks: list[int]) -> str | None:
        end = time.monotonic() + _PATIENCE
        while True:
            threads = users = table = 0
            for task in tasks:
                users, count, ring, table = self._process(task)
                threads += count
                if ring:
                    return URING
            if table and self._has_contexts(table):
                return AIO
            if users <= threads:
                return None
            if time.monotonic() > end:
                return ANOTHER

    def _process(self, task: int) -> tuple[int, int, int, int]:
        """(mm_users, threads, a ring's node, the table of AIO's contexts) of a process; zeros where there is none."""
        users = threads = ring = table = node = 0
        while True:
            raw = self.memory.answer(self._ask, task, node, _FOUND.size)
            held, count, mm, found, node, contexts = _FOUND.unpack(raw)
            threads, ring = threads + count, ring or found
            if mm:
                users, table = held & 0xFFFFFFFF, contexts
            if not node:
                return users, threads, ring, table

    def _has_contexts(self, table: int) -> bool:
        types, memory = kernel_types(), self.memory
        count = min(memory.u32(table + types.offset("kioctx_table", "nr")), _CONTEXTS)
        return any(memory.read(table + types.offset("kioctx_table", "table"), 8 * count))
