"""A thread that cannot be stopped, as it waits in vfork: its registers and what only itself could ask for.

All of it is read in the kernel's memory. It stands still as long as its child does.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass

from ckpt.errors import KernelError, Unsupported
from ckpt.kernel import procfs, uapi
from ckpt.kernel import uapi_state as us
from ckpt.kernel.btf import kernel_types
from ckpt.kernel.kernel_memory import KernelMemory
from ckpt.kernel.libc import syscall
from ckpt.kernel.xfeatures import standard_format

_PT_REGS = struct.Struct("<21Q")
_STACKS = ((16 << 10, 0), (16 << 10, 16), (32 << 10, 0), (32 << 10, 16))  # THREAD_SIZE, TOP_OF_KERNEL_STACK_PADDING
_ORIG_RAX, _RIP, _RSP = 15, 16, 19
_SIGQUEUE_MOST = 1 << 22
_SIGINFO = 48  # of kernel_siginfo; what follows in siginfo_t is zero
_ENQUEUED = 1  # HRTIMER_STATE_ENQUEUED


@dataclass(frozen=True, slots=True)
class Held:
    """What the kernel holds for the thread."""

    gpr: bytes  # NT_PRSTATUS
    xstate: bytes  # the standard format, as NT_X86_XSTATE
    altstack: tuple[int, int, int]  # stack_t: sp, flags, size
    pdeathsig: int
    tid_address: int
    rseq: tuple[int, int, int]  # address, size, signature
    securebits: int
    subreaper: bool
    actions: tuple[bytes, ...]  # struct kernel_sigaction of signal 1 and on
    pending: tuple[bytes, ...]  # siginfo_t
    shared_pending: tuple[bytes, ...]
    real_timer_ns: tuple[int, int]  # interval, left
    cpu_timers: bool  # whether ITIMER_VIRTUAL or ITIMER_PROF runs
    policy: bool  # whether it has a NUMA policy


def look(pid: int, tid: int) -> Held:
    """Unsupported without the right to read the kernel's memory, or where it is not as expected."""
    with KernelMemory() as memory:
        return _Reader(memory, task_of(memory, pid, tid), pid, tid).held()


def pending(pid: int, tid: int, *, shared: bool) -> tuple[bytes, ...]:
    """The queue of the thread, or of its process, which is frozen: siginfo_t, oldest first. Errors as `look`."""
    with KernelMemory() as memory:
        reader = _Reader(memory, task_of(memory, pid, tid), pid, tid)
        return reader.shared_pending() if shared else reader.pending()


def task_of(memory: KernelMemory, pid: int, tid: int) -> int:
    """The address of the thread's task_struct, by way of a pidfd of ours."""
    types = kernel_types()
    fd = syscall(f"pidfd_open({tid})", uapi.SYS_pidfd_open, tid, uapi.PIDFD_THREAD if tid != pid else 0)
    try:
        file = memory.file(fd)
        inode = memory.u64(file + types.offset("file", "f_inode"))
        for number in (memory.u64(inode + types.offset("inode", "i_private")), memory.private(fd)):
            if not number:
                continue
            try:
                node = memory.u64(number + types.offset("pid", "tasks"))
                task = node - types.offset("task_struct", "pid_links")
                if memory.u64(task + types.offset("task_struct", "thread_pid")) == number:
                    return task
            except KernelError:
                continue
    finally:
        os.close(fd)
    raise Unsupported(f"thread {tid} was not found in the kernel's memory")


class _Reader:
    def __init__(self, memory: KernelMemory, task: int, pid: int, tid: int) -> None:
        self._memory, self._task, self._pid, self._tid = memory, task, pid, tid
        self._types = kernel_types()

    def _at(self, *members: str) -> int:
        return self._task + self._types.offset("task_struct", *members)

    def _u64(self, *members: str) -> int:
        return self._memory.u64(self._at(*members))

    def _u32(self, *members: str) -> int:
        return self._memory.u32(self._at(*members))

    def held(self) -> Held:
        signal = self._u64("signal")
        return Held(
            gpr=self._gpr(),
            xstate=self._xstate(),
            altstack=(self._u64("sas_ss_sp"), self._u32("sas_ss_flags"), self._u64("sas_ss_size")),
            pdeathsig=self._u32("pdeath_signal"),
            tid_address=self._u64("clear_child_tid"),
            rseq=self._rseq(),
            securebits=self._memory.u32(self._u64("cred") + self._types.offset("cred", "securebits")),
            subreaper=self._subreaper(signal),
            actions=self._actions(),
            pending=self.pending(),
            shared_pending=self.shared_pending(),
            real_timer_ns=self._real_timer(signal),
            cpu_timers=self._cpu_timers(signal),
            policy=bool(self._u64("mempolicy")),
        )

    def _gpr(self) -> bytes:
        """struct user_regs_struct from the struct pt_regs at the top of the kernel stack."""
        shown = procfs.read_bytes(f"/proc/{self._pid}/task/{self._tid}/syscall", self._pid).split()
        nr, sp, pc = int(shown[0]), int(shown[-2], 16), int(shown[-1], 16)
        stack = self._u64("stack")
        for size, padding in _STACKS:
            try:
                regs = _PT_REGS.unpack(self._memory.read(stack + size - padding - _PT_REGS.size, _PT_REGS.size))
            except KernelError:
                continue
            if (regs[_ORIG_RAX], regs[_RIP], regs[_RSP]) == (nr, pc, sp):
                bases = self._u64("thread", "fsbase"), self._u64("thread", "gsbase")
                return _PT_REGS.pack(*regs) + struct.pack("<6Q", *bases, 0, 0, 0, 0)
        raise Unsupported(f"the registers of thread {self._tid} were not found in the kernel's memory")

    def _xstate(self) -> bytes:
        types = self._types
        try:
            fpu = self._at("thread", "fpu")
        except Unsupported:  # since 6.16 it lies behind the task_struct
            fpu = self._task + types.size("task_struct")
        state = self._memory.u64(fpu + types.offset("fpu", "fpstate"))
        size = self._memory.u32(state + types.offset("fpstate", "size"))
        return standard_format(self._memory.read(state + types.offset("fpstate", "regs"), size))

    def _rseq(self) -> tuple[int, int, int]:
        address = self._u64("rseq")
        return (address, self._u32("rseq_len"), self._u32("rseq_sig")) if address else (0, 0, 0)

    def _subreaper(self, signal: int) -> bool:
        """A bit field: is_child_subreaper is the first of the word, has_child_subreaper the second."""
        word = self._memory.u32(signal + self._types.offset("signal_struct", "is_child_subreaper"))
        return bool(word & 1)

    def _actions(self) -> tuple[bytes, ...]:
        start = self._u64("sighand") + self._types.offset("sighand_struct", "action")
        size = us.kernel_sigaction.size
        raw = self._memory.read(start, size * us.NSIG)
        return tuple(raw[at : at + size] for at in range(0, len(raw), size))

    def pending(self) -> tuple[bytes, ...]:
        return self._queue(self._at("pending"))

    def shared_pending(self) -> tuple[bytes, ...]:
        return self._queue(self._u64("signal") + self._types.offset("signal_struct", "shared_pending"))

    def _queue(self, pending: int) -> tuple[bytes, ...]:
        head = pending + self._types.offset("sigpending", "list")
        link, info = self._types.offset("sigqueue", "list"), self._types.offset("sigqueue", "info")
        found: list[bytes] = []
        node = self._memory.u64(head)
        while node != head:
            if len(found) == _SIGQUEUE_MOST:
                raise Unsupported(f"the signal queue of thread {self._tid} has no end in the kernel's memory")
            entry = self._memory.read(node - link, info + _SIGINFO)
            found.append(entry[info:].ljust(us.SIGINFO_SIZE, b"\0"))
            node = int.from_bytes(entry[link : link + 8], "little")
        return tuple(found)

    def _real_timer(self, signal: int) -> tuple[int, int]:
        types = self._types
        interval = self._memory.u64(signal + types.offset("signal_struct", "it_real_incr"))
        timer = signal + types.offset("signal_struct", "real_timer")
        if not self._memory.read(timer + types.offset("hrtimer", "state"), 1)[0] & _ENQUEUED:
            return interval, 0
        return interval, self._memory.u64(timer + types.offset("hrtimer", "node", "expires"))

    def _cpu_timers(self, signal: int) -> bool:
        start = signal + self._types.offset("signal_struct", "it")
        return self._memory.read(start, 32) != bytes(32)  # two of struct cpu_itimer: expires, incr
