"""What a process has as a whole: personality, OOM score, subreaper, MDWE, cgroups, autogroup, core filter, loginuid."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from ckpt.errors import KernelError, RestoreError
from ckpt.kernel import procfs, taskinfo, uapi
from ckpt.kernel import uapi_state as us
from ckpt.kernel.cgroup_freezer import is_frozen
from ckpt.records.seams import RemoteTask
from ckpt.records.state import Attributes
from ckpt.records.support import Support
from ckpt.state.context import CollectContext
from ckpt.state.rebuild import rebuilding

SUPPORT = Support(
    "tasks",
    "attributes",
    "personality, OOM score, subreaper, MDWE, cgroups that still exist, autogroup, core filter, login uid",
    refused="a task in a frozen cgroup (thaw it first)",
    lost="Landlock domains, which nothing shows: a restored task is not confined by them; keyrings of session, process "
    "and thread with their keys: it has ckpt's session keyring",
)

_UNSET = (1 << 32) - 1


def collect_attributes(remote: RemoteTask) -> Attributes:
    """Two remote syscalls (subreaper, MDWE); the rest from /proc."""
    pid = remote.tid  # the leader may have ended, and its files are empty then
    return Attributes(
        personality=taskinfo.value(pid, "personality", 16) or 0,
        oom_score_adj=taskinfo.value(pid, "oom_score_adj") or 0,
        child_subreaper=_subreaper(remote),
        mdwe=_mdwe(remote),
        cgroups=taskinfo.cgroups(pid),
        autogroup_nice=taskinfo.autogroup_nice(pid),
        coredump_filter=taskinfo.value(pid, "coredump_filter", 16) or 0,
        loginuid=_loginuid(pid),
    )


def _subreaper(remote: RemoteTask) -> bool:
    buffer = remote.put(bytes(8))
    remote.syscall(uapi.SYS_prctl, us.PR_GET_CHILD_SUBREAPER, buffer, 0, 0, 0)
    return remote.read(buffer, 4) != bytes(4)


def _mdwe(remote: RemoteTask) -> int:
    try:
        return remote.syscall(uapi.SYS_prctl, us.PR_GET_MDWE, 0, 0, 0, 0)
    except KernelError:
        return 0  # before Linux 6.3 (b507808ebce2)


def _loginuid(pid: int) -> int:
    found = taskinfo.value(pid, "loginuid")
    return _UNSET if found is None else found


def restore_attributes_early(remote: RemoteTask, record: Attributes) -> None:
    """In the bare task. Not the personality: READ_IMPLIES_EXEC would be in the way of the mappings, and each thread
    has one (threads.restore_thread)."""
    pid = remote.pid
    if (taskinfo.value(pid, "oom_score_adj") or 0) != record.oom_score_adj:
        with rebuilding(
            pid,
            f"oom_score_adj {record.oom_score_adj}",
            hint="a lower value than ckpt's own needs CAP_SYS_RESOURCE: start ckpt with it, or with "
            "choom -n and the task's value",
        ):
            taskinfo.write_value(pid, "oom_score_adj", str(record.oom_score_adj))
    if record.child_subreaper:
        with rebuilding(pid, "the child subreaper"):
            remote.syscall(uapi.SYS_prctl, us.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    rejoin_cgroups(pid, record.cgroups)
    _autogroup(pid, record.autogroup_nice)


def restore_loginuid(thread: RemoteTask, record: Attributes) -> None:
    """In each thread, for it can be set by itself alone. Where it cannot, it stays ckpt's: no task can act on it."""
    if _loginuid(thread.tid) == record.loginuid:
        return
    path, text = thread.put(b"/proc/thread-self/loginuid\0"), str(record.loginuid).encode()
    with suppress(KernelError):
        fd = thread.syscall(uapi.SYS_openat, 0, path, os.O_WRONLY | os.O_CLOEXEC, 0)
        try:
            thread.syscall(uapi.SYS_write, fd, thread.put(text), len(text))
        finally:
            thread.syscall(uapi.SYS_close, fd)


def restore_attributes_late(remote: RemoteTask, record: Attributes) -> None:
    """When the address space is complete: MDWE forbids making pages executable, for good."""
    pid = remote.pid
    if (taskinfo.value(pid, "coredump_filter", 16) or 0) != record.coredump_filter:
        with rebuilding(pid, "coredump_filter"):
            taskinfo.write_value(pid, "coredump_filter", f"{record.coredump_filter:#x}")
    if record.mdwe and _mdwe(remote) != record.mdwe:
        with rebuilding(pid, "PR_SET_MDWE"):
            remote.syscall(uapi.SYS_prctl, us.PR_SET_MDWE, record.mdwe, 0, 0, 0)


def collect_thread_cgroups(leader: int, tid: int, context: CollectContext) -> tuple[str, ...]:
    """The lines of a thread that was moved away from its process: by `tasks` in version 1, in a threaded cgroup."""
    if tid == leader:
        return ()
    known: dict[int, tuple[str, ...]] = context.shared.setdefault("attributes:cgroups", {})
    if leader not in known:
        known[leader] = taskinfo.cgroups(leader)
    own = taskinfo.cgroups(tid)
    return own if own != known[leader] else ()


def rejoin_cgroups(pid: int, lines: tuple[str, ...], tid: int = 0) -> None:
    """Back into the cgroups that still exist and are ours to write; a login session's, say, is gone for good.

    The whole process, or only its thread `tid`.
    """
    current = {tuple(line.split(":", 2)[1:]) for line in taskinfo.cgroups(tid or pid)}
    missing = [line.split(":", 2)[1:] for line in lines if tuple(line.split(":", 2)[1:]) not in current]
    if not missing:
        return
    mounts = taskinfo.cgroup_mounts()
    for controllers, path in missing:
        mount = mounts.get(",".join(sorted(controllers.split(","))))
        if mount is None or not Path(mount + path).is_dir():
            continue
        if is_frozen(mount, controllers, path):
            raise RestoreError(f"task {pid}: its cgroup {path} is frozen", hint="thaw it before the restore")
        name = "cgroup.procs" if not tid else "tasks" if controllers else "cgroup.threads"
        try:
            taskinfo.write_file(f"{mount}{path}/{name}", str(tid or pid))
        except KernelError:
            continue


def _autogroup(pid: int, nice: int) -> None:
    """The autogroup belongs to the session, so only its leader sets it."""
    if taskinfo.autogroup_nice(pid) == nice or procfs.stat(pid).sid != pid:
        return
    with rebuilding(pid, f"autogroup nice value {nice}"):
        taskinfo.write_value(pid, "autogroup", str(nice))
