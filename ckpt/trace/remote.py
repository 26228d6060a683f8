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
import struct
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from ckpt.errors import KernelError, NotDumpable, Refusal, RemoteCallError
from ckpt.kernel import procfs, seccomp_filter, uapi
from ckpt.kernel import ptrace_requests as ptrace
from ckpt.kernel.descriptors import steal_descriptor
from ckpt.kernel.memory import Memory
from ckpt.trace import gadgets, padding, sigframe
from ckpt.trace.sigframe import EFLAGS, RIP, RSP
from ckpt.trace.stepper import Stepper

_ALL_SIGNALS = (1 << 64) - 1
_SCRATCH = 4096
_CHAIN = 12288  # for the frames of `run_all`, where there is room
# What becomes of one that nobody catches is nothing; only a tracer sees it.
_UNHEARD = (signal.SIGURG, signal.SIGWINCH, signal.SIGCHLD)


class _Away(threading.local):
    """The one thread that stands away from its own registers. Who traces is a thread of ckpt, so each has its own."""

    remote: LiveRemote | None = None


_away = _Away()


@dataclass
class Site:
    """What is found out once for all threads of a frozen task."""

    maps: list[procfs.MapsLine] | None = None
    gadgets: gadgets.Gadgets | None = None
    room: int | None = None  # at the bottom of the main stack
    chain: int = 0  # bytes of it for a chain of frames


class LiveRemote:
    """A RemoteTask (see ckpt.records.seams) in a thread that will run on. `close` puts the thread back."""

    def __init__(self, pid: int, tid: int, site: Site | None = None) -> None:
        self._site = site if site is not None else Site()
        self.pid = pid
        self.tid = tid
        self.scratch = 0
        self.scratch_size = _SCRATCH
        self._memory: Memory | None = None
        self._entered = False
        self._saved = (0, b"")  # an address, and the task's own bytes there
        self._replaced: tuple[int, bytes] | None = None  # the same of code that is lent to the task
        self._chain = 0  # an address
        self._stepper = Stepper(pid, tid)
        self._options = uapi.PTRACE_O_TRACESYSGOOD
        self._filtered: dict[str, str] | None = None  # its status, when it runs under seccomp

    # ------------------------------------------------------------------ RemoteTask

    def syscall(self, nr: int, *args: int) -> int:
        """Run a call in the thread; its result, or KernelError with the errno."""
        self.enter()
        self._stepper.load(nr, *args)
        return self._stepper.run(nr)

    def run_all(self, calls: Sequence[Sequence[int]]) -> None:
        """Run (nr, argument…) one after the other; what they give is lost, what they write is there.

        The thread stops once for dozens of them: each is reached through a frame of its own, and the last sends the
        thread a signal that only a tracer sees. Should ckpt die in between, they are made and it puts itself back.
        Not in a thread that is to resume a timed wait: rt_sigreturn takes the restart block away.
        """
        self.enter()
        per = self._site.chain // sigframe.STRIDE - 1
        if not self._unheard or per < 1 or sigframe.resumes(sigframe.unpack(self._gpr)):
            for nr, *args in calls:
                with suppress(KernelError):
                    self.syscall(nr, *args)
            return
        self._save_chain()
        restorer, own = self._found.restorer, self._stepper.registers
        fpstate, mask = self._fpstate, _ALL_SIGNALS & ~(1 << self._unheard - 1)
        end = (uapi.SYS_tgkill, *self._numbers, self._unheard)
        for at in range(0, len(calls), per):
            part = [*calls[at : at + per], end]
            pointer, frames = sigframe.chain(self._chain, restorer, own, part, fpstate, mask)
            self.write(self._chain, frames)
            self._stepper.sail(pointer, self._unheard)
        ptrace.setsigmask(self.tid, _ALL_SIGNALS)
        ptrace.setregset(self.tid, uapi.NT_X86_XSTATE, self._xstate)

    def _save_chain(self) -> None:
        """The task's own bytes where the chain is to stand."""
        room, saved = self._saved
        end = self._chain + self._site.chain
        if room + len(saved) < end:
            self._saved = (room, saved + self._mem.read(room + len(saved), end - room - len(saved)))

    def put(self, data: bytes, offset: int = 0) -> int:
        """Write bytes to the scratch buffer; gives their address in the task."""
        self.enter()
        if offset % 8 or offset + len(data) > self.scratch_size:
            raise ValueError("outside the scratch buffer")
        self.write(self.scratch + offset, data)
        return self.scratch + offset

    def read(self, address: int, size: int) -> bytes:
        return self._mem.read(address, size)

    def write(self, address: int, data: bytes) -> None:
        self._mem.write(address, data)

    def take_descriptor(self, nr: int, *args: int) -> int:
        """See LiveTask. If ckpt dies, the thread closes what the call gave it before it goes back.

        By number, but by the number that the call gave: once ckpt is dead the task's other threads run too, and
        any number that was free in the freeze may be theirs.
        """
        self.enter()
        found, own = self._found, self._stepper.registers
        if found.result_to_argument and found.pop_rax and self._survives(uapi.SYS_close, 0):
            address = self.scratch + _SCRATCH // 2
            way = struct.pack("<4Q", found.result_to_argument, found.pop_rax, uapi.SYS_close, found.syscall_ret)
            self.write(address, way + self._frame)
            self._stepper.registers = list(own)
            self._stepper.registers[RSP] = address
        try:
            inside = self.syscall(nr, *args)
        finally:
            self._stepper.registers = own
        try:
            return steal_descriptor(self.pid, inside)
        finally:
            self.syscall(uapi.SYS_close, inside)

    # ------------------------------------------------------------------ processes that the thread makes

    @contextmanager
    def through(self, nr: int, *args: int) -> Iterator[None]:
        """Inside, should ckpt die, the thread makes this call on its way back to its own registers."""
        self.enter()
        own = self._stepper.registers
        self._stepper.registers = list(own)
        self._stepper.registers[RSP] = self._way_back(own, nr, *args)
        self._own = own
        try:
            yield
        finally:
            self._stepper.registers = own

    def instead(self, nr: int, *args: int) -> None:
        """Inside `through`: make it this call from now on."""
        self._way_back(self._own, nr, *args)

    def _way_back(self, own: list[int], nr: int, *args: int) -> int:
        """The frame takes the upper half of the scratch buffer. A call for which a filter would kill is left out."""
        if not self._survives(nr, *args):
            return own[RSP]
        address = self.scratch + _SCRATCH // 2
        pointer, frame = sigframe.call(address, self._found.restorer, own, nr, args)
        self.write(address, frame)
        return pointer

    def _survives(self, nr: int, *args: int) -> bool:
        """Whether the thread may make the call when ckpt is dead, and its filters are not suspended any more."""
        return self._filtered is None or seccomp_filter.permits(self.tid, self._filtered, nr, args)

    def way_out(self) -> int:
        """A stack for a new process, in the lower half of the scratch buffer: its frame leads to exit_group(0)."""
        self.enter()
        pointer, frame = sigframe.call(
            self.scratch, self._found.restorer, self._stepper.registers, uapi.SYS_exit_group, (0,)
        )
        self.write(self.scratch, frame)
        return pointer

    def clone(self, flags: int, stack: int) -> tuple[int, Stepper]:
        """clone(2) without an exit signal: the pid as the task sees it, and the new process, stopped and traced."""
        ptrace.setoptions(self.tid, self._options | uapi.PTRACE_O_TRACECLONE)
        try:
            inside = self.syscall(uapi.SYS_clone, flags, stack, 0, 0, 0)
        finally:
            ptrace.setoptions(self.tid, self._options)
        return inside, self._stepper.newborn(stack)

    def end_with_us(self) -> None:
        """From now on the task ends when ckpt does."""
        self._options |= uapi.PTRACE_O_EXITKILL
        ptrace.setoptions(self.tid, self._options)

    @property
    def overwritten(self) -> list[tuple[int, bytes]]:
        """The addresses that calls are prepared at, and the task's own bytes there."""
        return [self._saved, *([self._replaced] if self._replaced is not None else [])]

    # ------------------------------------------------------------------ enter and leave

    @property
    def _mem(self) -> Memory:
        if self._memory is None:
            self._memory = Memory(self.tid, write=True)
        return self._memory

    def enter(self) -> None:
        """Make ready for calls: the frame that puts the thread back stands in its memory."""
        if self._entered:
            return
        self.put_back()  # they may share the room below
        site = self._site
        if site.maps is None:
            site.maps = procfs.maps(self.tid)
        if site.gadgets is None:
            site.gadgets = gadgets.find(self.tid, site.maps)
        self._found = found = site.gadgets
        self._gpr = ptrace.getregset(self.tid, uapi.NT_PRSTATUS)
        registers = sigframe.unpack(self._gpr)
        self._xstate = xstate = ptrace.getregset(self.tid, uapi.NT_X86_XSTATE)
        self._mask = ptrace.getsigmask(self.tid)
        self._let_pass()
        size = _SCRATCH + 1024 + len(xstate) + 192
        room = self._room(site.maps, registers[RSP], size)
        self.scratch = room
        pointer, frame = sigframe.build(room + _SCRATCH, found.restorer, registers, xstate, self._mask)
        self._saved = (room, self._mem.read(room, _SCRATCH + len(frame)))
        self._lend(found.lent)
        self._mem.write(room + _SCRATCH, frame)
        self._chain = -(-(room + _SCRATCH + len(frame)) // 64) * 64
        frame_at = pointer - room - _SCRATCH
        self._frame = frame[frame_at : frame_at + sigframe.SIZE]  # from the restorer on; good at any address
        self._fpstate = room + _SCRATCH + -(-(frame_at + sigframe.SIZE) // 64) * 64
        registers[RSP] = pointer
        registers[RIP] = found.syscall_ret
        registers[EFLAGS] &= ~sigframe.TF  # a trap while all signals are blocked would undo the task's SIGTRAP handler
        self._stepper.registers = registers
        self._entered = True
        _away.remote = self
        # Only a thread that is on its way back may have its signals blocked: the frame gives it its own mask again.
        self._stepper.turn(pointer)
        ptrace.setsigmask(self.tid, _ALL_SIGNALS)

    def _lend(self, address: int) -> None:
        """Code for a task that has none. Should ckpt die it stays: the thread needs it on its way back."""
        self._replaced = None
        if address:
            self._replaced = (address, self._mem.read(address, len(padding.CODE)))
            self._mem.write(address, padding.CODE)

    def _room(self, maps: list[procfs.MapsLine], rsp: int, size: int) -> int:
        """Where nothing of the task's lives: see the module's first lines."""
        if self._site.room is not None:
            return self._site.room
        stack = next((m for m in maps if m.path == "[stack]" and m.perms.startswith("rw")), None)
        for chain in (_CHAIN, 0):
            room = self._unused(stack, size + chain) if stack is not None else 0
            if room:
                self._site.room, self._site.chain = room, chain
                return room
        own = next((m for m in maps if m.start <= rsp < m.end and m.perms.startswith("rw")), None)
        start = (rsp - sigframe.RED_ZONE - size) // 64 * 64
        if own is None or start < own.start:
            raise RemoteCallError(
                f"thread {self.tid} of task {self.pid} has no room on its stack for a remote syscall",
                hint="try again a moment later",
            )
        return start

    def _unused(self, stack: procfs.MapsLine, size: int) -> int:
        """An address at the bottom of the main stack, grown if need be; 0 when it has no room."""
        lowest = min((sp for sp in self._stack_pointers() if stack.start <= sp < stack.end), default=stack.end)
        start = stack.start + 4096
        if start + size + 4096 < lowest - sigframe.RED_ZONE:
            return start
        return self._grown(stack.start, size + 3 * 4096)

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

    def _let_pass(self) -> None:
        status = procfs.status(self.pid, self.tid)
        taken = int(status["SigCgt"], 16) | int(status["SigPnd"], 16) | int(status["ShdPnd"], 16)
        self._unheard = next((number for number in _UNHEARD if not taken >> number - 1 & 1), 0)
        self._numbers = [int(status[key].split()[-1]) for key in ("NStgid", "NSpid")]
        if "shstk" in status.get("x86_Thread_features", ""):
            raise RemoteCallError(
                f"thread {self.tid} of task {self.pid} uses a shadow stack, which no borrowed `ret` can pass",
                hint="start it with GLIBC_TUNABLES=glibc.cpu.x86_shstk=off",
            )
        self._undispatched()
        if status.get("Seccomp", "0") == "0":
            return
        self._filtered = status
        try:
            ptrace.setoptions(self.tid, self._options | uapi.PTRACE_O_SUSPEND_SECCOMP)
            self._options |= uapi.PTRACE_O_SUSPEND_SECCOMP
        except KernelError as error:
            reason = f"runs under seccomp, which this user cannot suspend: {error.message}"
            raise NotDumpable([Refusal(self.pid, f"thread {self.tid}", reason, "run ckpt as root")]) from None

    def _undispatched(self) -> None:
        """Where the thread has its system calls sent back as signals, it must not do so right now."""
        dispatch = ptrace.get_user_dispatch(self.tid)
        if dispatch is not None and not (dispatch[1] and self._mem.read(dispatch[1], 1) == b"\0"):
            raise RemoteCallError(
                f"thread {self.tid} of task {self.pid} runs code whose system calls are sent back to it (SIGSYS)",
                hint="try again a moment later",
            )

    def suspend(self) -> None:
        """Put the thread back as it was found, in a stop from which the kernel restarts an interrupted call."""
        if not self._entered:
            return
        self._entered = False
        _away.remote = None
        self._stepper.stand()
        ptrace.setsigmask(self.tid, self._mask)
        ptrace.setregset(self.tid, uapi.NT_PRSTATUS, self._gpr)
        for address, own in self.overwritten:
            self._mem.write(address, own)
        for number in self._stepper.held:  # stop signals that came in between
            os.kill(self.pid, number)
        self._stepper.held.clear()

    @staticmethod
    def put_back() -> None:
        """`suspend` whatever thread stands away from its registers: its memory is its own again."""
        if _away.remote is not None:
            _away.remote.suspend()

    @staticmethod
    def forget() -> None:
        """The tree is being killed: no thread needs to be put back."""
        _away.remote = None

    def close(self) -> None:
        """`suspend`, and let go of the memory."""
        try:
            self.suspend()
        finally:
            if self._memory is not None:
                self._memory.close()
                self._memory = None
