"""Remote syscalls in a frozen thread, safe against the death of ckpt at any instruction.

Before the thread is pointed anywhere, a signal frame with its own registers, FP state and mask stands in its memory,
and the stack pointer is such that the `ret` after the syscall runs rt_sigreturn on that frame: from then on the
thread puts itself back, with or without ckpt. While ckpt lives it stops the thread at the call's exit and restores
the registers itself, orig_rax included, so that an interrupted call restarts as if nothing had happened.

The frame stands where nothing of the task's lives: the unused bottom of the main stack, else below the thread's own
red zone. The bytes that were there are put back.
"""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from typing import ClassVar

from ckpt.errors import KernelError, NoSuchTask, RemoteCallError
from ckpt.kernel import procfs, uapi
from ckpt.kernel import ptrace_requests as ptrace
from ckpt.kernel.libc import kernel_error
from ckpt.kernel.memory import Memory
from ckpt.trace import gadgets, sigframe
from ckpt.trace.sigframe import ORIG_RAX, R8, R10, RAX, RDI, RDX, RIP, RSI, RSP

_WALL = 0x40000000
_ALL_SIGNALS = (1 << 64) - 1
_MAX_ERRNO = 4095
_SCRATCH = 4096
_ARGUMENTS = (RDI, RSI, RDX, R10, R8, sigframe.R9)


@dataclass
class Site:
    """What is found out once for all threads of a frozen task."""

    maps: list[procfs.MapsLine] | None = None
    gadgets: gadgets.Gadgets | None = None
    room: int | None = None  # at the bottom of the main stack


class LiveRemote:
    """A RemoteTask (see ckpt.records.seams) in a thread that will run on. `close` puts the thread back."""

    _active: ClassVar[LiveRemote | None] = None  # one thread at a time stands away from its own registers

    def __init__(self, pid: int, tid: int, site: Site | None = None) -> None:
        self._site = site if site is not None else Site()
        self.pid = pid
        self.tid = tid
        self.scratch = 0
        self.scratch_size = _SCRATCH
        self._memory: Memory | None = None
        self._entered = False
        self._masked = False
        self._held: list[int] = []  # stop signals that came in between; sent again at the end

    # ------------------------------------------------------------------ RemoteTask

    def syscall(self, nr: int, *args: int) -> int:
        """Run a call in the thread; its result, or KernelError with the errno."""
        self._enter()
        registers = list(self._call_registers)
        registers[RAX] = nr
        for index, value in zip(_ARGUMENTS, args, strict=False):
            registers[index] = value & _ALL_SIGNALS
        registers[ORIG_RAX] = _ALL_SIGNALS  # -1: nothing to restart
        ptrace.setregset(self.tid, uapi.NT_PRSTATUS, sigframe.pack(registers))
        if not self._masked:
            ptrace.setsigmask(self.tid, _ALL_SIGNALS)
            self._masked = True
        self._step()  # the call's entry
        self._step()  # and its exit
        result = sigframe.unpack(ptrace.getregset(self.tid, uapi.NT_PRSTATUS))[RAX]
        signed = result - (1 << 64) if result >> 63 else result
        if -_MAX_ERRNO <= signed < 0:
            raise kernel_error(f"remote syscall {nr} in thread {self.tid}", -signed)
        return signed if signed < 0 else result

    def put(self, data: bytes, offset: int = 0) -> int:
        """Write bytes to the scratch buffer; gives their address in the task."""
        self._enter()
        if offset % 8 or offset + len(data) > self.scratch_size:
            raise ValueError("outside the scratch buffer")
        self.write(self.scratch + offset, data)
        return self.scratch + offset

    def read(self, address: int, size: int) -> bytes:
        return self._mem.read(address, size)

    def write(self, address: int, data: bytes) -> None:
        self._mem.write(address, data)

    # ------------------------------------------------------------------ enter and leave

    @property
    def _mem(self) -> Memory:
        if self._memory is None:
            self._memory = Memory(self.tid, write=True)
        return self._memory

    def _enter(self) -> None:
        if self._entered:
            return
        if LiveRemote._active is not None:  # they may share the room below
            LiveRemote._active.suspend()
        site = self._site
        if site.maps is None:
            site.maps = procfs.maps(self.tid)
        if site.gadgets is None:
            site.gadgets = gadgets.find(self.tid, site.maps)
        found = site.gadgets
        self._gpr = ptrace.getregset(self.tid, uapi.NT_PRSTATUS)
        registers = sigframe.unpack(self._gpr)
        xstate = ptrace.getregset(self.tid, uapi.NT_X86_XSTATE)
        self._mask = ptrace.getsigmask(self.tid)
        self._suspend_seccomp()
        size = _SCRATCH + 1024 + len(xstate) + 128
        room = self._room(site.maps, registers[RSP], size)
        self.scratch = room
        pointer, frame = sigframe.build(room + _SCRATCH, found.restorer, registers, xstate, self._mask)
        self._saved = (room, self._mem.read(room, _SCRATCH + len(frame)))
        self._mem.write(room + _SCRATCH, frame)
        registers[RSP] = pointer
        registers[RIP] = found.syscall_ret
        self._call_registers = registers
        self._masked = False
        self._entered = True
        LiveRemote._active = self

    def _room(self, maps: list[procfs.MapsLine], rsp: int, size: int) -> int:
        """Where nothing of the task's lives: see the module's first lines."""
        if self._site.room is not None:
            return self._site.room
        stack = next((m for m in maps if m.path == "[stack]" and m.perms.startswith("rw")), None)
        if stack is not None:
            lowest = min((sp for sp in self._stack_pointers() if stack.start <= sp < stack.end), default=stack.end)
            start = stack.start + 4096
            if start + size + 4096 >= lowest - sigframe.RED_ZONE:
                start = self._grown(stack.start, size + 3 * 4096)
            if start:
                self._site.room = start
                return start
        own = next((m for m in maps if m.start <= rsp < m.end and m.perms.startswith("rw")), None)
        start = (rsp - sigframe.RED_ZONE - size) // 64 * 64
        if own is None or start < own.start:
            raise RemoteCallError(
                f"thread {self.tid} of task {self.pid} has no room on its stack for a remote syscall",
                hint="try again a moment later",
            )
        return start

    def _grown(self, bottom: int, more: int) -> int:
        """Let the stack grow by `more` bytes, as a deeper call would do; room in the new part, 0 if it cannot."""
        try:
            self._mem.read(bottom - more, 1)  # an access from outside grows a stack like one of the task's own
        except KernelError:
            return 0
        return bottom - more + 4096

    def _stack_pointers(self) -> list[int]:
        """Of every thread that shares this memory and is stopped; a thread that is not ours does not run either."""
        pointers = []
        for tid in procfs.threads(self.pid):
            try:
                pointers.append(sigframe.unpack(ptrace.getregset(tid, uapi.NT_PRSTATUS))[RSP])
            except KernelError:
                continue
        return pointers

    def _suspend_seccomp(self) -> None:
        if procfs.status(self.pid, self.tid).get("Seccomp", "0") == "0":
            return
        try:
            ptrace.setoptions(self.tid, uapi.PTRACE_O_TRACESYSGOOD | uapi.PTRACE_O_SUSPEND_SECCOMP)
        except KernelError as error:
            raise RemoteCallError(
                f"thread {self.tid} of task {self.pid} runs under seccomp, which this user cannot suspend: {error}",
                hint="run ckpt as root",
            ) from None

    def _step(self) -> None:
        """PTRACE_SYSCALL until the next syscall stop."""
        ptrace.syscall_step(self.tid)
        while True:
            status = self._wait()
            number = os.WSTOPSIG(status)
            if number == signal.SIGTRAP | 0x80:
                return
            if status >> 16 == 0:
                self._held.append(number)
            ptrace.syscall_step(self.tid)

    def _wait(self) -> int:
        try:
            _, status = os.waitpid(self.tid, _WALL)
        except ChildProcessError:
            raise NoSuchTask(f"thread {self.tid} of task {self.pid} ended while it was frozen") from None
        if not os.WIFSTOPPED(status):
            raise NoSuchTask(f"thread {self.tid} of task {self.pid} was killed while it was frozen")
        return status

    def suspend(self) -> None:
        """Put the thread back as it was found, in a stop from which the kernel restarts an interrupted call."""
        if not self._entered:
            return
        self._entered = False
        LiveRemote._active = None
        ptrace.interrupt(self.tid)
        ptrace.cont(self.tid, 0)
        while True:
            status = self._wait()
            if status >> 16 == uapi.PTRACE_EVENT_STOP:
                break
            self._held.append(os.WSTOPSIG(status))
            ptrace.cont(self.tid, 0)
        ptrace.setsigmask(self.tid, self._mask)
        ptrace.setregset(self.tid, uapi.NT_PRSTATUS, self._gpr)
        self._mem.write(*self._saved)
        for number in self._held:
            os.kill(self.pid, number)
        self._held.clear()

    @classmethod
    def forget(cls) -> None:
        """The tree is being killed: no thread needs to be put back."""
        cls._active = None

    def close(self) -> None:
        """`suspend`, and let go of the memory."""
        try:
            self.suspend()
        finally:
            if self._memory is not None:
                self._memory.close()
                self._memory = None
