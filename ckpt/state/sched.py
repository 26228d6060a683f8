"""Scheduling of a thread: policy, nice, CPU affinity, I/O priority, timer slack. Nearly all of it from outside."""

from __future__ import annotations

import os

from ckpt.errors import KernelError, NoSuchTask
from ckpt.kernel import taskinfo, uapi
from ckpt.kernel import uapi_state as us
from ckpt.records.seams import RemoteTask
from ckpt.records.state import NumaPolicy, Scheduling
from ckpt.records.support import Support
from ckpt.state.rebuild import rebuilding

SUPPORT = Support(
    "tasks",
    "scheduling",
    "policy, nice, affinity, I/O priority, timer slack, NUMA policy, utilization clamps",
    lost="core scheduling cookies; that tasks share an I/O context (CLONE_IO): each has that priority for itself; the "
    "timer slack that PR_SET_TIMERSLACK 0 goes back to",
)

_NO_CLAMPS = (0, 1024)
_ANYWHERE = b"\xff" * 128  # the kernel cuts it down to the CPUs that exist and the cpuset allows
_NODES = 1024  # bits of a node mask: the most that the kernel can be built for
_FAIR = frozenset({us.SCHED_NORMAL, us.SCHED_BATCH, us.SCHED_IDLE})


def collect_scheduling(remote: RemoteTask, numa: NumaPolicy | None) -> Scheduling:
    """`numa` is the thread's policy (`asked.ask`).

    `affinity` is empty for a thread that may run on every CPU of this host, however many the next one has.
    """
    tid = remote.tid
    policy, flags, _, priority, runtime, deadline, period = taskinfo.sched_getattr(tid)
    cpus = taskinfo.affinity(tid)
    mask = sum(1 << cpu for cpu in cpus)
    everywhere = len(cpus) >= (os.cpu_count() or 1)
    return Scheduling(
        policy=policy,
        flags=flags,
        nice=taskinfo.nice(tid),
        priority=priority,
        runtime=runtime,
        deadline=deadline,
        period=period,
        affinity=b"" if everywhere else mask.to_bytes((mask.bit_length() + 63) // 64 * 8, "little"),
        ioprio=taskinfo.ioprio(tid),
        timerslack_ns=_timerslack(remote),
        numa=numa,
        clamps=taskinfo.utilization(tid),
    )


def _timerslack(remote: RemoteTask) -> int:
    try:
        slack = taskinfo.value(remote.tid, "timerslack_ns")
    except (KernelError, NoSuchTask):
        slack = None  # another user's, without CAP_SYS_NICE
    if slack is not None:
        return slack
    return remote.syscall(uapi.SYS_prctl, us.PR_GET_TIMERSLACK, 0, 0, 0, 0)


def _numa_policy(remote: RemoteTask) -> NumaPolicy | None:
    room = remote.put(bytes(8 + _NODES // 8))
    try:
        remote.syscall(uapi.SYS_get_mempolicy, room, room + 8, _NODES, 0, 0)
    except KernelError:
        return None  # no CONFIG_NUMA
    raw = remote.read(room, 8 + _NODES // 8)
    mode = int.from_bytes(raw[:4], "little", signed=True)
    return NumaPolicy(mode, raw[8:].rstrip(b"\0")) if mode else None


def _set_numa_policy(remote: RemoteTask, policy: NumaPolicy | None) -> None:
    nodes = policy.nodes if policy is not None else b""
    room = remote.put(nodes.ljust(_NODES // 8, b"\0"))
    remote.syscall(
        uapi.SYS_set_mempolicy, policy.mode if policy is not None else 0, room if nodes else 0, _NODES if nodes else 0
    )


def restore_scheduling(remote: RemoteTask, record: Scheduling) -> None:
    """Before the credentials. Only what differs is set, so a plain task needs no privilege."""
    now = collect_scheduling(remote, _numa_policy(remote))
    pid, tid = remote.pid, remote.tid
    if record.timerslack_ns and record.timerslack_ns != now.timerslack_ns:  # 0: a real-time thread has none
        with rebuilding(pid, "timer slack"):
            remote.syscall(uapi.SYS_prctl, us.PR_SET_TIMERSLACK, record.timerslack_ns, 0, 0, 0)
    if record.affinity != now.affinity:
        with rebuilding(pid, "CPU affinity", hint="none of the CPUs that the thread was bound to may be used here"):
            taskinfo.set_affinity(tid, record.affinity or _ANYWHERE)
    if record.numa != now.numa:
        with rebuilding(pid, "NUMA policy", hint="none of the memory nodes that the thread was bound to is here"):
            _set_numa_policy(remote, record.numa)
    if record.nice != now.nice:
        with rebuilding(pid, f"nice value {record.nice}"):
            taskinfo.set_nice(tid, record.nice)
    _policy(pid, tid, record, now)
    if record.clamps is not None and record.clamps not in (taskinfo.utilization(tid), _NO_CLAMPS):
        with rebuilding(pid, "utilization clamps", hint="this kernel has none (CONFIG_UCLAMP_TASK)"):
            taskinfo.set_utilization(tid, *record.clamps)
    with rebuilding(pid, "I/O priority"):
        if record.ioprio != taskinfo.ioprio(tid):  # asked again, for it may follow the nice value
            taskinfo.set_ioprio(tid, record.ioprio)


def _policy(pid: int, tid: int, record: Scheduling, now: Scheduling) -> None:
    wanted = (record.policy, record.flags, record.priority, record.runtime, record.deadline, record.period)
    if wanted == (now.policy, now.flags, now.priority, now.runtime, now.deadline, now.period):
        return
    runtime = record.runtime
    if record.policy in _FAIR and runtime == now.runtime:
        runtime = 0  # the host's default slice: asking for it by value would pin it
    with rebuilding(pid, f"scheduling policy {record.policy}"):
        taskinfo.sched_setattr(
            tid,
            record.policy,
            record.flags,
            record.nice,
            record.priority,
            runtime,
            record.deadline,
            record.period,
        )
