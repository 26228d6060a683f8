"""Signal actions, alternate stacks, pending signals and masks."""

from __future__ import annotations

from collections.abc import Sequence

from ckpt.errors import KernelError
from ckpt.kernel import held, procfs, taskinfo, uapi
from ckpt.kernel import ptrace_requests as ptrace
from ckpt.kernel import uapi_state as us
from ckpt.records.seams import LiveTask, RemoteTask
from ckpt.records.state import SigAction, SigAltStack, SigInfo
from ckpt.records.support import Support
from ckpt.state.rebuild import rebuilding
from ckpt.trace.vforks import HeldRemote

SUPPORT = Support("signals", "signals", "actions, masks, pending ones with their siginfo, alternate stacks")

_MANY = 4096  # signals in a queue, from which on counting takes longer than looking
_ALL = (1 << us.NSIG) - 1
_DEFAULT = SigAction(0, us.SIG_DFL, 0, 0, 0)


def bit(signal: int) -> int:
    """The bit of a signal in a kernel signal set."""
    return 1 << (signal - 1)


def members(mask: int) -> list[int]:
    """The signals in a set, ascending."""
    return [signal for signal in range(1, us.NSIG + 1) if mask & bit(signal)]


# ------------------------------------------------------------------ actions


def collect_sigactions(remote: LiveTask) -> tuple[SigAction, ...]:
    """Every action that is not all zero: ignored and default ones have flags and masks too, and SIGCHLD obeys them."""
    found, size, signals = [], us.kernel_sigaction.size, range(1, us.NSIG + 1)
    room = remote.put(bytes(size * us.NSIG))
    remote.run_all([(uapi.SYS_rt_sigaction, n, 0, room + size * (n - 1), us.SIGSET_SIZE) for n in signals])
    answers = us.kernel_sigaction.iter_unpack(remote.read(room, size * us.NSIG))
    for signal, (handler, flags, restorer, mask) in zip(signals, answers, strict=True):
        if (handler, flags, restorer, mask) != (us.SIG_DFL, 0, 0, 0):
            found.append(SigAction(signal, handler, flags, restorer, mask))
    return tuple(found)


def restore_sigactions(remote: RemoteTask, record: Sequence[SigAction]) -> None:
    """Set the recorded actions, and the default for whatever else the new task inherited."""
    status = procfs.status(remote.pid)
    current = taskinfo.signal_set(status, "SigIgn") | taskinfo.signal_set(status, "SigCgt") | bit(us.SIGCHLD)
    wanted = {action.signal: action for action in record}
    for signal in sorted(set(members(current)) | set(wanted)):
        action = wanted.get(signal, _DEFAULT)
        raw = us.kernel_sigaction.pack(action.handler, action.flags, action.restorer, action.mask)
        with rebuilding(remote.pid, f"the action of signal {signal}"):
            remote.syscall(uapi.SYS_rt_sigaction, signal, remote.put(raw), 0, us.SIGSET_SIZE)


# ------------------------------------------------------------------ alternate stack


def restore_altstack(remote: RemoteTask, record: SigAltStack) -> None:
    """Register it again; the remote thread must not run on it."""
    flags = record.flags - (1 << 32) if record.flags >> 31 else record.flags
    raw = us.stack_t.pack(record.sp, flags, record.size)
    with rebuilding(remote.pid, "the alternate signal stack"):
        remote.syscall(uapi.SYS_sigaltstack, remote.put(raw), 0)


# ------------------------------------------------------------------ pending signals and masks


def collect_pending(remote: RemoteTask, status: dict[str, str], *, shared: bool) -> tuple[SigInfo, ...]:
    """The queue of the thread or of the whole process; SIGKILL is left out, for nobody outlives it."""
    if not taskinfo.signal_set(status, "ShdPnd" if shared else "SigPnd"):
        return ()
    if isinstance(remote, HeldRemote):
        queue = list(remote.held.shared_pending if shared else remote.held.pending)
    else:
        queue = ptrace.peeksiginfo(remote.tid, shared=shared, most=_MANY)
        if len(queue) >= _MANY:
            queue = _long_queue(remote, shared=shared)
    return tuple(SigInfo(info) for info in queue if signal_of(info) != us.SIGKILL)


def _long_queue(remote: RemoteTask, *, shared: bool) -> list[bytes]:
    """In the kernel's memory, where every signal is found from the one before it; else by counting from the first."""
    try:
        return list(held.pending(remote.pid, remote.tid, shared=shared))
    except KernelError:
        return ptrace.peeksiginfo(remote.tid, shared=shared)


def signal_of(info: bytes) -> int:
    """si_signo."""
    return int.from_bytes(info[:4], "little", signed=True)


def block_all(tid: int) -> None:
    """Nothing queued from here on is delivered before `restore_sigmask`."""
    with rebuilding(tid, "the signal mask"):
        ptrace.setsigmask(tid, _ALL)


def restore_pending(remote: RemoteTask, record: Sequence[SigInfo], *, shared: bool) -> None:
    """Queue the signals again, by the thread itself, for only that may claim si_code >= 0. Blocks all signals.

    SIGSTOP cannot be blocked: `restore_sigmask` sends it.
    """
    if not record:
        return
    block_all(remote.tid)
    for entry in record:
        signal = signal_of(entry.info)
        if signal in (us.SIGKILL, us.SIGSTOP):
            continue
        with rebuilding(remote.pid, f"pending signal {signal}", hint="RLIMIT_SIGPENDING may be too low"):
            buffer = remote.put(entry.info)
            if shared:
                remote.syscall(uapi.SYS_rt_sigqueueinfo, remote.pid, signal, buffer)
            else:
                remote.syscall(uapi.SYS_rt_tgsigqueueinfo, remote.pid, remote.tid, signal, buffer)


def collect_sigmask(tid: int) -> int:
    """The blocked signals; to be called before any remote syscall in the thread."""
    return ptrace.getsigmask(tid)


def restore_sigmask(pid: int, tid: int, mask: int, pending: Sequence[SigInfo] = ()) -> None:
    """After the last remote syscall in the thread, for a pending signal may now be delivered.

    `pending`: the thread's own queue; the leader's is given together with the process-wide one.
    """
    with rebuilding(pid, "the signal mask"):
        ptrace.setsigmask(tid, mask)
        if any(signal_of(entry.info) == us.SIGSTOP for entry in pending):
            taskinfo.send_signal(pid, tid, us.SIGSTOP)
