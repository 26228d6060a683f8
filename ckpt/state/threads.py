"""A thread as a whole: collected with few remote syscalls (a chain, and one by itself), restored in order.

Restoring a thread takes some steps, because what comes later takes away the means for what comes before:
`restore_thread`, then (once for the process) `task_state.late`, then `restore_privileges`, `resume_wait`, and
`finish_threads`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ckpt.kernel import procfs, taskinfo, uapi
from ckpt.kernel import ptrace_requests as ptrace
from ckpt.kernel import uapi_state as us
from ckpt.kernel.descriptors import kcmp
from ckpt.kernel.wakeups import Wakeups
from ckpt.records.seams import RemoteTask
from ckpt.records.state import FsState, Registers, RseqState
from ckpt.records.support import Support
from ckpt.records.task import TaskRecord, ThreadRecord
from ckpt.state import asked, attributes, fs, ids, ioports, prctl, sched, seccomp, signals, thread_areas
from ckpt.state.context import CollectContext, FrozenTaskLike
from ckpt.state.rebuild import rebuilding
from ckpt.state.registers import collect_registers, restore_registers, wait_again
from ckpt.trace import vforks, waits
from ckpt.trace.sigframe import ORIG_RAX, RAX, pack, unpack
from ckpt.trace.skeleton import Skeleton
from ckpt.trace.vforks import HeldRemote

SUPPORT = Support(
    "tasks",
    "threads",
    "any number, each with its ids, name, robust list, rseq registration, system call user dispatch",
    lost="a tid address (CLONE_CHILD_CLEARTID) that lies in a file with a name: the end of the dump clears it there",
)

_SHADOW_STACK = "shstk"


@dataclass(frozen=True, slots=True)
class Glance:
    """What must be read before any remote syscall in the thread, for that would show in it."""

    registers: Registers
    sigmask: int
    wait_left_ns: int = -1


def glance(tid: int, wakeups: Wakeups | None = None, frozen_for_ns: int = 0) -> Glance:
    """Registers and signal mask of a stopped thread, as they stand, and what is left of a timed wait."""
    registers = collect_registers(tid)
    left = waits.left(tid, unpack(registers.gpr), wakeups, frozen_for_ns)
    return Glance(registers, signals.collect_sigmask(tid), -1 if left is None else left)


def glance_held(remote: HeldRemote) -> Glance:
    """Of a thread that waits in vfork: what it will be when that returns."""
    registers = unpack(remote.held.gpr)
    registers[RAX], registers[ORIG_RAX] = vforks.child_of(remote.pid, remote.tid), (1 << 64) - 1
    mask = taskinfo.signal_set(procfs.status(remote.pid, remote.tid), "SigBlk")
    return Glance(Registers(pack(registers), remote.held.xstate), mask)


def collect_thread(task: FrozenTaskLike, tid: int, context: CollectContext, seen: Glance | None = None) -> ThreadRecord:
    """Everything of one thread. `seen` must be given if remote syscalls were made in the thread before."""
    pid = task.pid
    if seen is None:
        seen = glance(tid)
    status = procfs.status(pid, tid)
    flags = procfs.stat(pid, tid).flags
    if _SHADOW_STACK in status.get("x86_Thread_features", ""):
        context.refuse(
            pid,
            f"thread {tid}",
            "uses a shadow stack",
            "start it with GLIBC_TUNABLES=glibc.cpu.x86_shstk=off",
        )
    remote = task.remote(tid)
    rseq = RseqState(*remote.held.rseq) if isinstance(remote, HeldRemote) else _collect_rseq(tid)
    bits = ids.collect_securebits(remote)
    told = asked.ask(remote)
    robust = taskinfo.robust_list(tid)
    own_fs, fs_tid = _collect_fs(task, tid, status, context)
    return ThreadRecord(
        tid=tid,
        pid=pid,
        comm=taskinfo.comm(pid, tid),
        registers=seen.registers,
        sigmask=seen.sigmask,
        wait_left_ns=seen.wait_left_ns,
        pending=signals.collect_pending(remote, status, shared=False),
        altstack=told.altstack,
        credentials=ids.collect_credentials(status, bits),
        scheduling=sched.collect_scheduling(remote, told.numa),
        rseq=rseq if rseq is not None and rseq.address else None,
        robust_list=robust if robust[0] else None,
        clear_child_tid=told.clear_child_tid,
        pdeathsig=told.pdeathsig,
        seccomp=seccomp.collect_seccomp(pid, tid, status, context),
        prctl=prctl.collect_prctl(remote, status, flags, bits, told.tsc_mode, prctl.collect_cpuid_faults(remote)),
        ports=() if isinstance(remote, HeldRemote) else ioports.collect_ports(tid, context),
        fs=own_fs,
        fs_tid=fs_tid,
        dispatch=(ptrace.get_user_dispatch(tid) or ()) if not isinstance(remote, HeldRemote) else (),
        debug=() if isinstance(remote, HeldRemote) else ptrace.get_debug_registers(tid),
        vfork=vforks.child_of(pid, tid) if isinstance(remote, HeldRemote) else 0,
        personality=taskinfo.value(tid, "personality", 16) or 0,
        cgroups=attributes.collect_thread_cgroups(task.tids[0], tid, context),
        areas=() if isinstance(remote, HeldRemote) else thread_areas.collect_areas(tid, context),
    )


def _collect_fs(
    task: FrozenTaskLike, tid: int, status: dict[str, str], context: CollectContext
) -> tuple[FsState | None, int]:
    """What a thread that left the process's directories has instead, and which thread's they are."""
    leader = task.tids[0]
    if tid == leader or kcmp(leader, tid, uapi.KCMP_FS) == 0:
        return None, 0
    known: dict[int, list[int]] = context.shared.setdefault("threads.fs", {})
    owners = known.setdefault(task.pid, [])
    owner = next((other for other in owners if kcmp(other, tid, uapi.KCMP_FS) == 0), 0)
    if owner:
        return None, owner
    owners.append(tid)
    own = fs.collect_fs(task.pid, tid, status, context)
    if own.cwd_file:
        words = f"the working directory of thread {tid}"
        context.refuse(task.pid, words, "was deleted", "let the thread change to another one")
    return own, tid


def _collect_rseq(tid: int) -> RseqState | None:
    address, size, signature = ptrace.get_rseq_configuration(tid)
    return RseqState(address, size, signature) if address else None


# ------------------------------------------------------------------ restore


def restore_thread(remote: RemoteTask, record: ThreadRecord, task: TaskRecord) -> None:
    """First step, with all privileges, when the memory is filled and every thread exists."""
    pid = remote.pid
    personality = record.personality if record.personality >= 0 else task.attributes.personality
    with rebuilding(pid, f"personality {personality:#x}"):
        if (taskinfo.value(remote.tid, "personality", 16) or 0) != personality:
            remote.syscall(uapi.SYS_personality, personality)
    attributes.rejoin_cgroups(pid, record.cgroups, remote.tid)
    attributes.restore_loginuid(remote, task.attributes)
    _restore_comm(remote, record.comm)
    with rebuilding(pid, "the robust futex list"):
        if record.robust_list is not None:
            remote.syscall(uapi.SYS_set_robust_list, *record.robust_list)
    with rebuilding(pid, "the tid address"):
        remote.syscall(uapi.SYS_set_tid_address, record.clear_child_tid)
    _restore_rseq(remote, record.rseq)
    signals.restore_altstack(remote, record.altstack)
    if record.fs is not None:
        fs.restore_fs(remote, record.fs)
    sched.restore_scheduling(remote, record.scheduling)
    prctl.restore_prctl(remote, record.prctl)
    ioports.restore_ports(remote, record.ports)


def restore_privileges(remote: RemoteTask, record: ThreadRecord) -> None:
    """Third step, after `task_state.late`: seccomp, credentials, parent-death signal.

    Filters need CAP_SYS_ADMIN or no_new_privs, so they go in while the thread still has the one, or after the other.
    """
    capabilities = taskinfo.ids(procfs.status(remote.pid, remote.tid)).cap_eff
    admin = bool(capabilities >> us.CAP_SYS_ADMIN & 1)
    if admin:
        seccomp.restore_seccomp(remote, record.seccomp)
    ids.restore_credentials(remote, record.credentials)
    if not admin:
        seccomp.restore_seccomp(remote, record.seccomp)
    prctl.restore_pdeathsig(remote, record.pdeathsig)


def restore_ended(leader: Skeleton, comm: str, like: ThreadRecord) -> None:
    """A first thread that has ended, in place of all that: what is still seen of it, with the ids of thread `like`."""
    leader.step_calls()
    _restore_comm(leader, comm)
    ids.restore_credentials(leader, like.credentials)


def resume_wait(skeleton: Skeleton, record: ThreadRecord) -> ThreadRecord:
    """Fourth step, the last one with remote syscalls: let the kernel know of the wait in which the thread was."""
    with rebuilding(skeleton.pid, "an interrupted call"):
        return replace(record, registers=wait_again(skeleton, record.registers, record.wait_left_ns))


def finish_threads(task: TaskRecord, threads: Sequence[ThreadRecord]) -> None:
    """Last step, from outside: registers and signal masks of every thread of a process. Then only detach."""
    for thread in threads:
        thread_areas.restore_areas(thread)
        restore_registers(thread.tid, thread.registers, thread.wait_left_ns)
        if thread.dispatch:
            with rebuilding(thread.pid, "system call user dispatch"):
                ptrace.set_user_dispatch(thread.tid, thread.dispatch)
        if thread.debug:
            with rebuilding(thread.pid, "the debug registers"):
                ptrace.set_debug_registers(thread.tid, thread.debug)
    shared = list(task.pending)
    for thread in threads:
        own = (*thread.pending, *shared) if thread.tid == task.tids[0] else thread.pending
        signals.restore_sigmask(thread.pid, thread.tid, thread.sigmask, own)


def _restore_comm(remote: RemoteTask, comm: str) -> None:
    if taskinfo.comm(remote.pid, remote.tid) != comm:
        name = comm.encode("utf-8", "surrogateescape")[:15] + b"\0"
        with rebuilding(remote.pid, f"the name {comm!r}"):
            remote.syscall(uapi.SYS_prctl, us.PR_SET_NAME, remote.put(name), 0, 0, 0)


def _restore_rseq(remote: RemoteTask, record: RseqState | None) -> None:
    current = _collect_rseq(remote.tid)
    if current == record:
        return
    with rebuilding(remote.pid, "the rseq registration"):
        if current is not None:
            flag = us.RSEQ_FLAG_UNREGISTER
            remote.syscall(uapi.SYS_rseq, current.address, current.size, flag, current.signature)
        if record is not None:
            remote.syscall(uapi.SYS_rseq, record.address, record.size, 0, record.signature)
