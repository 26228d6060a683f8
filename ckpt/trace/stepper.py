"""System calls in a traced thread that stands at a borrowed `syscall; ret`, with every signal blocked."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from dataclasses import dataclass, field

from ckpt.errors import KernelError, NoSuchTask, RemoteCallError
from ckpt.kernel import ptrace_requests as ptrace
from ckpt.kernel import reports, uapi
from ckpt.kernel import uapi_state as us
from ckpt.kernel.libc import kernel_error
from ckpt.trace import sigframe
from ckpt.trace.sigframe import ARGUMENTS, ORIG_RAX, RAX, RIP, RSP

_MAX_ERRNO = 4095
_LONGEST = 120.0  # seconds that a call may take; to fork the memory of a large process takes some
_M64 = (1 << 64) - 1


@dataclass
class Stepper:
    """One traced thread, stopped. `registers` point at the borrowed code and at a stack that leads away from it."""

    pid: int
    tid: int
    registers: list[int] = field(default_factory=list)
    held: list[int] = field(default_factory=list)  # stop signals that came in between
    born: int = 0  # the last process that the thread made under PTRACE_O_TRACECLONE, as ckpt numbers it
    patience: float = field(default_factory=lambda: _LONGEST)  # seconds

    def load(self, nr: int, *args: int) -> None:
        """Set the registers for a call."""
        registers = list(self.registers)
        registers[RAX] = nr
        for index, value in zip(ARGUMENTS, args, strict=False):
            registers[index] = value & _M64
        registers[ORIG_RAX] = _M64  # -1: nothing to restart
        ptrace.setregset(self.tid, uapi.NT_PRSTATUS, sigframe.pack(registers))

    def run(self, nr: int) -> int:
        """Let the loaded call happen; its result, or KernelError with the errno."""
        self.step()  # the call's entry
        self.step()  # and its exit
        result = sigframe.unpack(ptrace.getregset(self.tid, uapi.NT_PRSTATUS))[RAX]
        signed = result - (1 << 64) if result >> 63 else result
        if -_MAX_ERRNO <= signed < 0:
            raise kernel_error(f"remote syscall {nr} in thread {self.tid}", -signed)
        return signed if signed < 0 else result

    def step(self) -> None:
        """PTRACE_SYSCALL until the next syscall stop."""
        ptrace.syscall_step(self.tid)
        while True:
            status = self.wait()
            number = os.WSTOPSIG(status)
            if number == signal.SIGTRAP | 0x80:
                return
            if status >> 16 == uapi.PTRACE_EVENT_CLONE:
                self.born = ptrace.geteventmsg(self.tid)
            elif status >> 16 == 0:
                self.held.append(number)
            ptrace.syscall_step(self.tid)

    def turn(self, pointer: int) -> None:
        """Set the registers for the `ret` behind the call, with this stack."""
        registers = list(self.registers)
        registers[RSP] = pointer
        registers[RIP] += len(b"\x0f\x05")
        registers[RAX], registers[ORIG_RAX] = 0, _M64
        ptrace.setregset(self.tid, uapi.NT_PRSTATUS, sigframe.pack(registers))

    def sail(self, pointer: int, last: int) -> None:
        """Let the thread go through a chain of frames whose last call sends it the signal `last`, which is taken."""
        self.turn(pointer)
        while True:
            ptrace.cont(self.tid, 0)
            status = self.wait()
            if status >> 16 == 0:
                if os.WSTOPSIG(status) == last:
                    return
                self.held.append(os.WSTOPSIG(status))

    def stand(self, *, runs: bool = False) -> None:
        """Stop in the way from which the kernel restarts an interrupted call; `runs`: it does not stand yet."""
        while True:
            ptrace.interrupt(self.tid)  # each time: any other stop makes it forgotten
            if not runs:
                ptrace.cont(self.tid, 0)
            status, runs = self.wait(), False
            if status >> 16 == uapi.PTRACE_EVENT_STOP:
                return
            if status >> 16 == 0 and os.WSTOPSIG(status) != signal.SIGTRAP | 0x80:
                self.held.append(os.WSTOPSIG(status))

    def newborn(self, stack: int) -> Stepper:
        """The process that the last clone made, in its first stop."""
        registers = list(self.registers)
        registers[RSP] = stack
        child = Stepper(self.born, self.born, registers)
        child.wait()
        return child

    def leave(self) -> None:
        """End the process by exit_group(0), and reap it as its tracer."""
        with suppress(KernelError):  # it has been killed
            self.load(uapi.SYS_exit_group, 0)
            ptrace.cont(self.tid, 0)
        with suppress(ChildProcessError):
            while os.WIFSTOPPED(os.waitpid(self.tid, us.WALL)[1]):
                ptrace.cont(self.tid, 0)

    def wait(self) -> int:
        """The status of the thread's next stop; NoSuchTask when it ended, RemoteCallError when there is none."""
        try:
            status = reports.wait(self.tid, time.monotonic() + self.patience)
        except ChildProcessError:
            raise NoSuchTask(f"thread {self.tid} of task {self.pid} ended while it was frozen") from None
        except TimeoutError:
            raise RemoteCallError(
                f"thread {self.tid} of task {self.pid} has not come back from a call of ckpt's for {self.patience:g} s",
                hint="see /proc/PID/wchan: a file system or a device may not answer; the task goes on when it does",
            ) from None
        if not os.WIFSTOPPED(status):
            raise NoSuchTask(f"thread {self.tid} of task {self.pid} was killed while it was frozen")
        return status
