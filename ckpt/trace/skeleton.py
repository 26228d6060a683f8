"""Skeletons: bare stopped tasks with wanted pids, in which restore builds the tasks of an image.

A skeleton's memory holds a stub page (`syscall; int3`), a scratch buffer and room for the vdso, in one block at
an address that no mapping of the tree uses; and vdso and vvar. It and everything it clones is traced with
PTRACE_O_EXITKILL until `let_go`: when ckpt dies, nothing half-built is left.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ckpt.errors import KernelError, RestoreError
from ckpt.kernel import namespaces, reports, uapi, uapi_restore
from ckpt.kernel import ptrace_requests as ptrace
from ckpt.kernel.libc import kernel_error
from ckpt.kernel.memory import Memory
from ckpt.trace import stub, waits
from ckpt.trace.sigframe import ARGUMENTS, RAX, RIP, pack, unpack

PAGE = uapi.PAGE_SIZE
SCRATCH_SIZE = 256 << 10
PARKING_SIZE = 128 << 10  # where vdso and vvar wait while their old place is being built
BLOCK_SIZE = 2 * PAGE + SCRATCH_SIZE + PARKING_SIZE
"""Bytes of address space that a skeleton needs at its stub address."""

_ALL = (1 << 64) - 1
_MAX_ERRNO = 4095
_REAP_PATIENCE = 0.2  # seconds
OPTIONS = (
    uapi.PTRACE_O_TRACESYSGOOD
    | uapi.PTRACE_O_EXITKILL
    | uapi.PTRACE_O_TRACECLONE
    | uapi.PTRACE_O_TRACEFORK
    | uapi.PTRACE_O_TRACEVFORK
)
THREAD = uapi.CLONE_VM | uapi.CLONE_FS | uapi.CLONE_FILES | uapi.CLONE_SIGHAND | uapi.CLONE_THREAD | uapi.CLONE_SYSVSEM
"""The flags of a clone that makes one more thread."""


@dataclass(frozen=True, slots=True)
class Block:
    """The layout of the skeleton's own block in its address space."""

    start: int

    @property
    def gadget(self) -> int:
        return self.start + PAGE

    @property
    def scratch(self) -> int:
        return self.start + 2 * PAGE

    @property
    def parking(self) -> int:
        return self.scratch + SCRATCH_SIZE

    @property
    def end(self) -> int:
        return self.start + BLOCK_SIZE


class Skeleton:
    """One stopped thread of a task being built; a RemoteTask (see ckpt.records.seams)."""

    def __init__(self, pid: int, tid: int, block: Block, base: list[int], *, stepped: bool = False) -> None:
        self.pid = pid
        self.tid = tid
        self.block = block
        self.alive = True  # traced by ckpt
        self.ended = False
        self._base = base  # registers in which a call starts
        self._stepped = stepped
        self._memory: Memory | None = None

    @property
    def scratch(self) -> int:
        return self.block.scratch

    @property
    def scratch_size(self) -> int:
        return SCRATCH_SIZE

    # ------------------------------------------------------------------ RemoteTask

    def syscall(self, nr: int, *args: int) -> int:
        """Run a call in the thread; its result, or KernelError with the errno."""
        self._point(nr, args)
        if self._stepped:
            ptrace.syscall_step(self.tid)
            self._wait_syscall_stop()
            ptrace.syscall_step(self.tid)
            self._wait_syscall_stop()
        else:
            ptrace.cont(self.tid, 0)
            self._wait_trap()
        return self._result(nr)

    def put(self, data: bytes, offset: int = 0) -> int:
        """Write bytes to the scratch buffer; gives their address in the task."""
        if offset % 8 or offset + len(data) > SCRATCH_SIZE:
            raise ValueError("outside the scratch buffer")
        self.write(self.scratch + offset, data)
        return self.scratch + offset

    def read(self, address: int, size: int) -> bytes:
        return self.memory.read(address, size)

    def write(self, address: int, data: bytes) -> None:
        self.memory.write(address, data)

    @property
    def memory(self) -> Memory:
        """The task's memory through /proc/PID/mem; open until `close_memory`."""
        if self._memory is None:
            self._memory = Memory(self.tid, write=True)
        return self._memory

    def close_memory(self) -> None:
        """Give the descriptor back; it is opened again on use."""
        if self._memory is not None:
            self._memory.close()
            self._memory = None

    # ------------------------------------------------------------------ the mechanics of a call

    def _point(self, nr: int, args: tuple[int, ...]) -> None:
        registers = list(self._base)
        registers[RAX] = nr
        for index, value in zip(ARGUMENTS, args, strict=False):
            registers[index] = value & _ALL
        ptrace.setregset(self.tid, uapi.NT_PRSTATUS, pack(registers))

    def _result(self, nr: int) -> int:
        result = self._registers[RAX]
        signed = result - (1 << 64) if result >> 63 else result
        if -_MAX_ERRNO <= signed < 0:
            raise kernel_error(f"system call {nr} in the skeleton of {self.tid}", -signed)
        return result

    def _wait_trap(self) -> None:
        """Until the int3 behind the call; any other signal is put aside, for it was meant for nobody yet."""
        after = self.block.gadget + stub.AFTER_TRAP
        while True:
            status = self._wait()
            if status >> 16 == 0 and os.WSTOPSIG(status) == signal.SIGTRAP:
                self._registers = unpack(ptrace.getregset(self.tid, uapi.NT_PRSTATUS))
                if self._registers[RIP] == after:
                    return
            ptrace.cont(self.tid, 0)

    def _wait_syscall_stop(self) -> None:
        while True:
            status = self._wait()
            if os.WSTOPSIG(status) == signal.SIGTRAP | 0x80:
                self._registers = unpack(ptrace.getregset(self.tid, uapi.NT_PRSTATUS))
                return
            ptrace.syscall_step(self.tid)

    def _wait(self) -> int:
        try:
            status = reports.wait(self.tid)
        except ChildProcessError:
            self.alive, self.ended = False, True
            raise RestoreError(f"thread {self.tid} of task {self.pid} vanished while it was built") from None
        if not os.WIFSTOPPED(status):
            self.alive = False
            how = f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"status {status >> 8}"
            raise RestoreError(
                f"thread {self.tid} of task {self.pid} ended with {how} while it was being built",
                hint="something outside killed it (the out-of-memory killer?); try again",
            )
        return status

    # ------------------------------------------------------------------ more tasks and threads

    def clone(self, pid: int, flags: int, exit_signal: int = 0) -> Skeleton:
        """clone3 in the task: a child or thread with tid `pid` (0: the kernel's choice), stopped, traced too."""
        set_tid = self.scratch + 128
        args = uapi_restore.clone_args.pack(
            flags, 0, 0, 0, exit_signal, 0, 0, 0, set_tid if pid else 0, 1 if pid else 0, 0
        )
        address = self.put(args.ljust(128, b"\0") + pid.to_bytes(8, "little"))
        tid = self.syscall(uapi.SYS_clone3, address, uapi_restore.clone_args.size)
        child = Skeleton(
            self.pid if flags & uapi.CLONE_THREAD else tid, tid, self.block, self._base, stepped=self._stepped
        )
        child._wait_first_stop()
        return child

    def _wait_first_stop(self) -> None:
        while self._wait() >> 16 != uapi.PTRACE_EVENT_STOP:
            ptrace.cont(self.tid, 0)

    @contextmanager
    def passing_thread(self) -> Iterator[Skeleton]:
        """One more thread of the task, which ends afterwards."""
        thread = self.clone(0, THREAD)
        yield thread
        thread._point(uapi.SYS_exit, (0,))
        ptrace.cont(thread.tid, 0)
        while os.WIFSTOPPED(os.waitpid(thread.tid, uapi_restore.WALL)[1]):
            ptrace.cont(thread.tid, 0)

    def step_calls(self) -> None:
        """From now on run calls by PTRACE_SYSCALL alone, without the int3.

        A forced SIGTRAP unblocks the signal and makes it default again: once the task's own signal mask and
        actions stand, there must be no more of them.
        """
        self._stepped = True

    def suspend_seccomp(self) -> None:
        """Keep filters that will be installed away from the calls that still follow."""
        ptrace.setoptions(self.tid, OPTIONS | uapi.PTRACE_O_SUSPEND_SECCOMP)

    def enter_group_stop(self, number: int) -> None:
        """Let the SIGSTOP that was sent to the task stop it as `number` would: it stays stopped after `let_go`."""
        mask = ptrace.getsigmask(self.tid)
        ptrace.setsigmask(self.tid, mask & ~(1 << (number - 1)))
        ptrace.cont(self.tid, 0)
        while (status := self._wait()) >> 16 != uapi.PTRACE_EVENT_STOP:
            ptrace.cont(self.tid, number if os.WSTOPSIG(status) == signal.SIGSTOP else 0)
        ptrace.setsigmask(self.tid, mask)

    def enter_stop(self) -> None:
        """Come to a PTRACE_EVENT_STOP, past whatever the kernel had to tell of the thread."""
        waits.event_stop(self.tid)

    def attempt(self, nr: int, *args: int) -> int:
        """`syscall`, but -1 when the call fails."""
        try:
            return self.syscall(nr, *args)
        except KernelError:
            return -1

    def interrupted(self, nr: int, *args: int) -> int:
        """Begin a call and interrupt it: its result, or -ERESTART_RESTARTBLOCK when it waits.

        The kernel then holds a restart block of that call for the thread, until the thread waits in another.
        """
        self.step_calls()
        self._point(nr, args)
        ptrace.syscall_step(self.tid)
        self._wait_syscall_stop()
        ptrace.syscall_step(self.tid)
        ptrace.interrupt(self.tid)
        self._wait_syscall_stop()
        result = self._registers[RAX]
        waits.event_stop(self.tid)
        return result - (1 << 64) if result >> 63 else result

    # ------------------------------------------------------------------ the end

    def leave(self, status: int) -> None:
        """Stand before the call that ends this thread alone: it is made once the thread is let go of."""
        self.step_calls()
        ptrace.setsigmask(self.tid, _ALL)
        self._point(uapi.SYS_exit, (status >> 8,))
        ptrace.syscall_step(self.tid)
        self._wait_syscall_stop()

    def finish(self, *, unmap: bool) -> None:
        """The last call: with `unmap` the block itself, in which the call runs. Only `let_go` may follow."""
        if not unmap:
            return
        self.step_calls()
        self.syscall(uapi.SYS_munmap, self.block.start, BLOCK_SIZE)

    def let_go(self) -> None:
        """Detach; the thread runs on with the registers that it has. It may end at once, and take all others along."""
        self.close_memory()
        self.alive = False
        try:
            ptrace.detach(self.tid, 0)
        except KernelError:
            reap_tracee(self.tid)

    def exit(self, status: int, *, core: bool = False) -> int:
        """End the task with a wait status (code or signal), not reaped; gives the status that came true."""
        if status & 0x7F:
            if not core:
                self.syscall(uapi.SYS_prctl, uapi_restore.PR_SET_DUMPABLE, 0)  # it leaves no core file
            ptrace.setsigmask(self.tid, 0)
            ptrace.cont(self.tid, status & 0x7F)
        else:
            self._point(uapi.SYS_exit_group, (status >> 8,))
            ptrace.cont(self.tid, 0)
        self.close_memory()
        while True:
            _, now = os.waitpid(self.tid, uapi_restore.WALL)
            if not os.WIFSTOPPED(now):
                self.alive, self.ended = False, True
                return now
            ptrace.cont(self.tid, status & 0x7F)

    def kill(self) -> None:
        """End the whole task; one that has ended is left alone, for its number may be somebody else's now."""
        self.close_memory()
        if self.ended:
            return
        if self.pid == namespaces.INIT:  # nobody in its namespace can kill it: PTRACE_O_EXITKILL does when ckpt ends
            self.alive, self.ended = False, True
            return
        try:
            os.kill(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            return


def reap_tracee(tid: int) -> None:
    """Wait as the tracer for the end of a thread that is being killed: its parent hears of it only then.

    Not for ever, for a leader ends after its threads; what is left the kernel lets go of when ckpt ends.
    """
    end = time.monotonic() + _REAP_PATIENCE
    while time.monotonic() < end:
        try:
            got, status = os.waitpid(tid, os.WNOHANG | uapi_restore.WALL)
        except ChildProcessError:
            return
        if got and not os.WIFSTOPPED(status):
            return
        time.sleep(0.0002)


def reap(skeletons: list[Skeleton]) -> None:
    """Wait for killed skeletons; the tracer's share comes first, then the root's by ckpt, its parent."""
    for skeleton in reversed(skeletons):
        while skeleton.alive:
            try:
                _, status = os.waitpid(skeleton.tid, uapi_restore.WALL)
            except ChildProcessError:
                break
            if not os.WIFSTOPPED(status):
                break
        skeleton.alive = False
