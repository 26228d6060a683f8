"""Threads that wait in vfork: they cannot be stopped, and stand still while the child that shares their memory does.

`HeldRemote` stands in for remote syscalls in such a thread: it answers from the kernel's memory what the thread would
be told, and lets the child make the calls that are about what both share.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress

from ckpt.errors import KernelError, NoSuchTask, NotDumpable, Refusal, RemoteCallError, Unsupported
from ckpt.kernel import procfs, uapi
from ckpt.kernel import uapi_state as us
from ckpt.kernel.descriptors import kcmp
from ckpt.kernel.held import Held, look
from ckpt.kernel.namespaces import timer_clock_ns
from ckpt.records.seams import LiveTask
from ckpt.trace.sigframe import ORIG_RAX, unpack

_CALLS = frozenset({uapi.SYS_clone, uapi.SYS_clone3, uapi.SYS_vfork})
_OF_THE_MEMORY = frozenset({us.PR_GET_MDWE, us.PR_GET_TSC, us.PR_GET_DUMPABLE, us.PR_GET_THP_DISABLE})
_SS_DISABLE = 2
_ROOM = 64 << 10


def child_of(pid: int, tid: int, *, apart: bool = False) -> int:
    """The child for whose end or exec the thread waits in vfork; 0 when it does not.

    One that shares its memory, as all of vfork(2) do; with `apart` one that does not (CLONE_VFORK alone).
    """
    try:
        if procfs.state(pid, tid) != "D":
            return 0
        call = procfs.read_bytes(f"/proc/{pid}/task/{tid}/syscall", pid).split()
        if not call[0].isdigit() or int(call[0]) not in _CALLS:
            return 0
        children = procfs.children(pid, [tid])
        return next((child for child in reversed(children) if (kcmp(tid, child, uapi.KCMP_VM) != 0) == apart), 0)
    except (NoSuchTask, KernelError, IndexError):
        return 0


class HeldRemote:
    """A LiveTask whose calls are not made."""

    def __init__(self, pid: int, tid: int, child: Callable[[], LiveTask]) -> None:
        self.pid, self.tid = pid, tid
        self.scratch, self.scratch_size = 1 << 12, _ROOM
        self._room = bytearray(_ROOM)
        self._child = child
        try:
            self.held: Held = look(pid, tid)
        except (Unsupported, KernelError) as error:
            reason = f"waits in vfork, and its registers cannot be read: {error.message}"
            hint = "run ckpt with CAP_BPF and CAP_PERFMON, or when the child has executed a program or ended"
            raise NotDumpable([Refusal(pid, f"thread {tid}", reason, hint, passing=True)]) from None

    def put(self, data: bytes, offset: int = 0) -> int:
        self._room[offset : offset + len(data)] = data
        return self.scratch + offset

    def read(self, address: int, size: int) -> bytes:
        at = address - self.scratch
        return bytes(self._room[at : at + size])

    def write(self, address: int, data: bytes) -> None:
        self._room[address - self.scratch : address - self.scratch + len(data)] = data

    def run_all(self, calls: Sequence[Sequence[int]]) -> None:
        for nr, *args in calls:
            with suppress(KernelError):
                self.syscall(nr, *args)

    def take_descriptor(self, nr: int, *args: int) -> int:
        raise self._cannot(nr)

    def through(self, nr: int, *args: int) -> AbstractContextManager[None]:
        return nullcontext()

    def close(self) -> None:
        return

    def _cannot(self, nr: int) -> KernelError:
        return KernelError(f"thread {self.tid} of task {self.pid} waits in vfork (call {nr})", errno=errno.ENOSYS)

    def syscall(self, nr: int, *args: int) -> int:
        """What the call would give; KernelError for one that is not known here."""
        held = self.held
        if nr == uapi.SYS_rt_sigaction and not args[1]:
            self.write(args[2], held.actions[args[0] - 1])
        elif nr == uapi.SYS_sigaltstack and not args[0]:
            sp, flags, size = held.altstack
            self.write(args[1], us.stack_t.pack(sp, flags if size else _SS_DISABLE, size))
        elif nr == uapi.SYS_getitimer:
            self.write(args[1], self._timer(args[0]))
        elif nr == uapi.SYS_prctl:
            return self._prctl(*args)
        elif nr == uapi.SYS_arch_prctl:
            return self._child().syscall(nr, *args)  # what it has is its creator's
        elif nr == uapi.SYS_timer_gettime or (nr == uapi.SYS_get_mempolicy and held.policy):
            what = "a NUMA policy" if held.policy else "POSIX timers"
            raise RemoteCallError(
                f"task {self.pid} waits in vfork, and has {what}, which it cannot be asked about",
                hint=f"try again when task {child_of(self.pid, self.tid)} has executed a program or ended",
            )
        else:
            raise self._cannot(nr)
        return 0

    def _timer(self, which: int) -> bytes:
        if which:
            if self.held.cpu_timers:
                raise RemoteCallError(f"task {self.pid} waits in vfork, and has a CPU timer", hint="stop it first")
            return bytes(us.itimerval.size)
        interval, expiry = self.held.real_timer_ns
        left = max(1000, expiry - timer_clock_ns(time.CLOCK_MONOTONIC)) if expiry else 0
        return us.itimerval.pack(*divmod(interval // 1000, 1_000_000), *divmod(left // 1000, 1_000_000))

    def _prctl(self, option: int, *args: int) -> int:
        held = self.held
        if option in _OF_THE_MEMORY:
            child = self._child()
            buffer = child.put(bytes(8)) if option == us.PR_GET_TSC else args[0]
            result = child.syscall(uapi.SYS_prctl, option, buffer, *args[1:])
            if option == us.PR_GET_TSC:
                self.write(args[0], child.read(buffer, 4))
            return result
        if option == us.PR_GET_SECUREBITS:
            return held.securebits
        numbers = {
            us.PR_GET_PDEATHSIG: (held.pdeathsig, 4),
            us.PR_GET_CHILD_SUBREAPER: (int(held.subreaper), 4),
            us.PR_GET_TID_ADDRESS: (held.tid_address, 8),
        }
        if option not in numbers:
            raise self._cannot(uapi.SYS_prctl)
        value, size = numbers[option]
        self.write(args[0], value.to_bytes(size, "little"))
        return 0

    @property
    def call(self) -> int:
        """The number of the call in which it waits."""
        return unpack(self.held.gpr)[ORIG_RAX]
