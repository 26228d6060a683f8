"""User and group ids, capabilities, securebits, no_new_privs. Each thread has its own, mostly all the same."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

from ckpt.errors import KernelError, RestoreError
from ckpt.kernel import procfs, taskinfo, uapi
from ckpt.kernel import uapi_state as us
from ckpt.kernel.taskinfo import StatusIds
from ckpt.records.seams import RemoteTask
from ckpt.records.state import Credentials
from ckpt.records.support import Support
from ckpt.records.task import ThreadRecord
from ckpt.state.rebuild import rebuilding

SUPPORT = Support(
    "identity", "credentials", "user and group ids, groups, capabilities, securebits, no_new_privs, for each thread"
)


def collect_securebits(remote: RemoteTask) -> int:
    """The only part that /proc does not show; one remote syscall."""
    return remote.syscall(uapi.SYS_prctl, us.PR_GET_SECUREBITS, 0, 0, 0, 0)


def collect_credentials(status: dict[str, str], securebits: int) -> Credentials:
    """The credentials of the thread whose /proc/PID/task/TID/status is given."""
    s = taskinfo.ids(status)
    return Credentials(
        uids=s.uids,
        gids=s.gids,
        groups=s.groups,
        cap_inh=s.cap_inh,
        cap_prm=s.cap_prm,
        cap_eff=s.cap_eff,
        cap_bnd=s.cap_bnd,
        cap_amb=s.cap_amb,
        securebits=securebits,
        no_new_privs=s.no_new_privs,
    )


def as_mapped(threads: Sequence[ThreadRecord], groups: Sequence[int]) -> list[ThreadRecord]:
    """The threads as they can be in a user namespace in which only this user's own ids are mapped.

    `groups` are this user's supplementary ones outside: they cannot be changed inside, where they have no numbers.
    RestoreError names every task of somebody else.
    """
    uid, gid = os.geteuid(), os.getegid()
    shown = taskinfo.ids(procfs.status(os.getpid())).groups
    foreign: dict[str, None] = {}
    found = []
    for thread in threads:
        c = thread.credentials
        if {*c.uids} != {uid} or {*c.gids} != {gid}:
            were = f"it ran as user {c.uids[1]} and group {c.gids[1]}"
            foreign[f"task {thread.pid}: {were}, ckpt runs as {uid} and {gid}"] = None
        elif {*c.groups} - {gid} != {*groups} - {gid}:
            foreign[f"task {thread.pid}: it was in groups {_list(c.groups)}, ckpt is in {_list(groups)}"] = None
        found.append(replace(thread, credentials=replace(c, groups=shown)))
    if foreign:
        raise RestoreError("\n".join(foreign), hint="run ckpt as that user, or as root")
    return found


def _list(groups: Sequence[int]) -> str:
    return ", ".join(map(str, groups)) or "none"


def restore_credentials(remote: RemoteTask, record: Credentials) -> None:
    """Take the thread to the recorded credentials; what is right already is not touched.

    Afterwards remote syscalls have only the task's privileges, and pdeathsig and dumpable are at their defaults if
    an id changed: both are restored later.
    """
    pid = remote.pid
    now = taskinfo.ids(procfs.status(pid, remote.tid))
    _check_reachable(pid, now, record)
    bits = collect_securebits(remote)
    if _differs(now, record, bits):
        if record.groups != now.groups:
            _groups(remote, record.groups)
        if record.uids != now.uids or record.gids != now.gids:
            bits = _keep_capabilities(remote, bits)
            _set_ids(remote, record, now)
            now = taskinfo.ids(procfs.status(pid, remote.tid))
        _capabilities(remote, record, now, bits)
    if record.no_new_privs and not now.no_new_privs:
        with rebuilding(pid, "no_new_privs"):
            remote.syscall(uapi.SYS_prctl, us.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def _differs(now: StatusIds, record: Credentials, bits: int) -> bool:
    return (
        now.uids,
        now.gids,
        now.groups,
        now.cap_inh,
        now.cap_prm,
        now.cap_eff,
        now.cap_bnd,
        now.cap_amb,
        bits,
    ) != (
        record.uids,
        record.gids,
        record.groups,
        record.cap_inh,
        record.cap_prm,
        record.cap_eff,
        record.cap_bnd,
        record.cap_amb,
        record.securebits,
    )


def _check_reachable(pid: int, now: StatusIds, record: Credentials) -> None:
    if now.no_new_privs and not record.no_new_privs:
        raise RestoreError(
            f"task {pid}: ckpt runs with no_new_privs, which the task did not have and which cannot be undone",
            hint="start ckpt outside the service or sandbox that sets no_new_privs",
        )
    missing = [
        (name, wanted & ~have)
        for name, wanted, have in (
            ("permitted", record.cap_prm, now.cap_prm),
            ("bounding", record.cap_bnd, now.cap_bnd),
        )
        if wanted & ~have
    ]
    if missing:
        text = ", ".join(f"{name} {bits:#x}" for name, bits in missing)
        raise RestoreError(
            f"task {pid}: it had capabilities that ckpt lacks here ({text})",
            hint="run ckpt with these capabilities, as root outside a container",
        )


def _groups(remote: RemoteTask, groups: tuple[int, ...]) -> None:
    raw = b"".join(group.to_bytes(4, "little") for group in groups)
    if len(raw) > remote.scratch_size:
        raise RestoreError(f"task {remote.pid}: it is in {len(groups)} groups, more than can be set")
    with rebuilding(remote.pid, "its groups"):
        remote.syscall(uapi.SYS_setgroups, len(groups), remote.put(raw) if raw else 0)


def _keep_capabilities(remote: RemoteTask, bits: int) -> int:
    """Let ids change without a change of capabilities; gives the securebits that now hold."""
    wanted = bits | us.SECBIT_NO_SETUID_FIXUP
    try:
        remote.syscall(uapi.SYS_prctl, us.PR_SET_SECUREBITS, wanted, 0, 0, 0)
    except KernelError:
        return bits  # no CAP_SETPCAP: nothing to keep either, or what was lost is reported below
    return wanted


def _set_ids(remote: RemoteTask, record: Credentials, now: StatusIds) -> None:
    for name, wanted, have, set_three, set_fs in (
        ("group ids", record.gids, now.gids, uapi.SYS_setresgid, uapi.SYS_setfsgid),
        ("user ids", record.uids, now.uids, uapi.SYS_setresuid, uapi.SYS_setfsuid),
    ):
        with rebuilding(remote.pid, f"its {name}"):
            if wanted[:3] != have[:3]:
                remote.syscall(set_three, *wanted[:3])
                have = (*wanted[:3], wanted[1])
            if wanted[3] != have[3]:
                remote.syscall(set_fs, wanted[3])
                if remote.syscall(set_fs, (1 << 32) - 1) != wanted[3]:
                    raise RestoreError(f"task {remote.pid}: the filesystem id {wanted[3]} is not allowed")


def _capabilities(remote: RemoteTask, record: Credentials, now: StatusIds, bits: int) -> None:
    """Inheritable first, while the bounding set still allows it; ambient needs permitted and inheritable; securebits
    need CAP_SETPCAP; only then is the rest given up."""
    pid = remote.pid
    with rebuilding(pid, "its capabilities"):
        if record.cap_inh != now.cap_inh:
            _capset(remote, now.cap_eff, now.cap_prm, record.cap_inh)
        for cap in _caps(now.cap_bnd & ~record.cap_bnd):
            remote.syscall(uapi.SYS_prctl, us.PR_CAPBSET_DROP, cap, 0, 0, 0)
        if record.cap_amb != now.cap_amb:
            remote.syscall(uapi.SYS_prctl, us.PR_CAP_AMBIENT, us.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
            for cap in _caps(record.cap_amb):
                remote.syscall(uapi.SYS_prctl, us.PR_CAP_AMBIENT, us.PR_CAP_AMBIENT_RAISE, cap, 0, 0)
    with rebuilding(pid, "its securebits"):
        if bits ^ record.securebits == us.SECBIT_KEEP_CAPS:
            keep = int(bool(record.securebits & us.SECBIT_KEEP_CAPS))
            remote.syscall(uapi.SYS_prctl, us.PR_SET_KEEPCAPS, keep, 0, 0, 0)
        elif bits != record.securebits:
            remote.syscall(uapi.SYS_prctl, us.PR_SET_SECUREBITS, record.securebits, 0, 0, 0)
    with rebuilding(pid, "its capabilities"):
        last = taskinfo.ids(procfs.status(pid, remote.tid))
        wanted = (record.cap_eff, record.cap_prm, record.cap_inh)
        if wanted != (last.cap_eff, last.cap_prm, last.cap_inh):
            _capset(remote, *wanted)


def _caps(mask: int) -> list[int]:
    return [cap for cap in range(64) if mask >> cap & 1]


def _capset(remote: RemoteTask, effective: int, permitted: int, inheritable: int) -> None:
    low = [mask & 0xFFFFFFFF for mask in (effective, permitted, inheritable)]
    high = [mask >> 32 for mask in (effective, permitted, inheritable)]
    header = remote.put(us.cap_header.pack(us.LINUX_CAPABILITY_VERSION_3, 0))
    data = remote.put(us.cap_data.pack(*low, *high), 16)
    remote.syscall(uapi.SYS_capset, header, data)
