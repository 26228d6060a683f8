"""What /proc and the outside system calls say about a task's state beyond procfs.py: parsers and thin wrappers."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from ckpt.errors import KernelError, NoSuchTask
from ckpt.kernel import procfs, uapi
from ckpt.kernel import uapi_state as us
from ckpt.kernel.libc import kernel_error, syscall

# ------------------------------------------------------------------ /proc/PID/status


@dataclass(frozen=True, slots=True)
class StatusIds:
    """The credentials' lines of /proc/PID/status, in the reader's user namespace."""

    uids: tuple[int, ...]  # real, effective, saved, filesystem
    gids: tuple[int, ...]
    groups: tuple[int, ...]
    cap_inh: int
    cap_prm: int
    cap_eff: int
    cap_bnd: int
    cap_amb: int
    no_new_privs: bool


_OVERFLOW = 65534  # what stands for a group without a number: kernel.overflowgid
_outside: dict[int, tuple[int, ...]] = {}


def remember_groups(groups: Mapping[int, tuple[int, ...]]) -> None:
    """By pid, as this process read them before it entered a user namespace in which they have no numbers."""
    _outside.update(groups)


def _groups(pid: int, shown: tuple[int, ...]) -> tuple[int, ...]:
    if pid in _outside or not _outside or _OVERFLOW not in shown:
        return _outside.get(pid, shown)
    return next(iter(_outside.values()))  # born since then, and nobody there may change his groups


def ids(status: dict[str, str]) -> StatusIds:
    """Uid, Gid, Groups, Cap* and NoNewPrivs."""
    return StatusIds(
        uids=tuple(map(int, status["Uid"].split())),
        gids=tuple(map(int, status["Gid"].split())),
        groups=_groups(int(status.get("Tgid", "0")), tuple(map(int, status["Groups"].split()))),
        cap_inh=int(status["CapInh"], 16),
        cap_prm=int(status["CapPrm"], 16),
        cap_eff=int(status["CapEff"], 16),
        cap_bnd=int(status["CapBnd"], 16),
        cap_amb=int(status.get("CapAmb", "0"), 16),
        no_new_privs=status.get("NoNewPrivs", "0") == "1",
    )


def signal_set(status: dict[str, str], key: str) -> int:
    """SigPnd, ShdPnd, SigBlk, SigIgn or SigCgt; bit n-1 for signal n."""
    return int(status[key], 16)


_SSB = {
    "thread force mitigated": us.PR_SPEC_PRCTL | us.PR_SPEC_FORCE_DISABLE,
    "thread mitigated": us.PR_SPEC_PRCTL | us.PR_SPEC_DISABLE,
    "thread vulnerable": us.PR_SPEC_PRCTL | us.PR_SPEC_ENABLE,
}
_INDIRECT = {
    "conditional force disabled": us.PR_SPEC_PRCTL | us.PR_SPEC_FORCE_DISABLE,
    "conditional disabled": us.PR_SPEC_PRCTL | us.PR_SPEC_DISABLE,
    "conditional enabled": us.PR_SPEC_PRCTL | us.PR_SPEC_ENABLE,
}


def speculation(status: dict[str, str]) -> tuple[int, ...]:
    """PR_SPEC_* of store bypass and indirect branch, 0 where the task has no say; empty on old kernels."""
    if "Speculation_Store_Bypass" not in status:
        return ()
    return (
        _SSB.get(status["Speculation_Store_Bypass"], 0),
        _INDIRECT.get(status.get("SpeculationIndirectBranch", ""), 0),
    )


# ------------------------------------------------------------------ /proc/PID/timers, limits, cgroup


@dataclass(frozen=True, slots=True)
class TimerLines:
    """One timer of /proc/PID/timers."""

    timer_id: int
    signo: int
    sigval: int
    notify: int  # SIGEV_*
    notify_tid: int  # 0 unless SIGEV_THREAD_ID
    clock_id: int


_NOTIFY = {"signal": us.SIGEV_SIGNAL, "none": us.SIGEV_NONE, "thread": us.SIGEV_THREAD}


def parse_timers(text: str) -> list[TimerLines]:
    """The text of /proc/PID/timers; the sigval is printed as a pointer, the target as pid.N or tid.N."""
    found: list[TimerLines] = []
    fields: dict[str, str] = {}
    for line in [*text.splitlines(), "ID: -1"]:
        key, _, value = line.partition(":")
        if key == "ID" and fields:
            signo, _, sigval = fields["signal"].partition("/")
            kind, _, target = fields["notify"].partition("/")
            by_tid, _, tid = target.partition(".")
            notify = _NOTIFY[kind]
            if by_tid == "tid":
                notify |= us.SIGEV_THREAD_ID
            found.append(
                TimerLines(
                    timer_id=int(fields["ID"]),
                    signo=int(signo),
                    sigval=0 if sigval == "(null)" else int(sigval, 16),
                    notify=notify,
                    notify_tid=int(tid) if by_tid == "tid" else 0,
                    clock_id=int(fields["ClockID"]),
                )
            )
            fields = {}
        fields[key] = value.strip()
    return sorted(found, key=lambda timer: timer.timer_id)


def timers(pid: int) -> list[TimerLines]:
    """The POSIX timers of a process, by id."""
    return parse_timers(procfs.read_bytes(f"/proc/{pid}/timers", pid).decode())


def parse_limits(text: str) -> list[tuple[int, int]]:
    """(soft, hard) of every resource in /proc/PID/limits, indexed by RLIMIT_* number."""

    def number(word: str) -> int:
        return us.RLIM_INFINITY if word == "unlimited" else int(word)

    rows = [line[26:].split() for line in text.splitlines()[1:]]  # the name takes 25 columns and a blank
    return [(number(row[0]), number(row[1])) for row in rows]


def limits(pid: int) -> list[tuple[int, int]]:
    """The resource limits: unlike prlimit64, no capability is needed to read another user's."""
    return parse_limits(procfs.read_bytes(f"/proc/{pid}/limits", pid).decode())


def set_limit(pid: int, resource: int, soft: int, hard: int) -> None:
    """prlimit64 from outside."""
    new = (ctypes.c_uint64 * 2)(soft, hard)
    syscall(f"prlimit64({pid})", uapi.SYS_prlimit64, pid, resource, ctypes.byref(new), 0)


def cgroups(pid: int) -> tuple[str, ...]:
    """The lines of /proc/PID/cgroup."""
    return tuple(procfs.read_bytes(f"/proc/{pid}/cgroup", pid).decode("utf-8", "surrogateescape").splitlines())


def cgroup_mounts() -> dict[str, str]:
    """Where each cgroup hierarchy is mounted: the controllers as /proc/PID/cgroup names them -> path; "" is v2."""
    found: dict[str, str] = {}
    text = procfs.read_bytes("/proc/self/mountinfo", os.getpid()).decode("utf-8", "surrogateescape")
    for line in text.splitlines():
        left, _, right = line.partition(" - ")
        root, path = left.split()[3:5]
        kind, _, options = right.split(" ", 2)
        if root != "/":
            continue
        if kind == "cgroup2":
            found.setdefault("", path)
        elif kind == "cgroup":
            words = {w for w in options.split(",") if not w.startswith("release_agent=")}
            found[",".join(sorted(words - {"rw", "ro", "xattr", "clone_children", "noprefix", "seclabel"}))] = path
    return found


# ------------------------------------------------------------------ single values


def value(pid: int, name: str, base: int = 10) -> int | None:
    """The number in a file of /proc/PID; None where this kernel has no such file."""
    try:
        text = procfs.read_bytes(f"/proc/{pid}/{name}", pid)
        return int(text, base)
    except NoSuchTask:
        if procfs.exists(pid):
            return None
        raise


def write_value(pid: int, name: str, text: str) -> None:
    """Write a file of /proc/PID."""
    write_file(f"/proc/{pid}/{name}", text)


def write_file(path: str, text: str) -> None:
    """Write a file of the kernel's in one go."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, text.encode())
        finally:
            os.close(fd)
    except OSError as error:
        raise kernel_error(f"writing {text!r} to {path}", error.errno or 0) from None


def comm(pid: int, tid: int) -> str:
    """The name of a thread, undecodable bytes as surrogates."""
    text = procfs.read_bytes(f"/proc/{pid}/task/{tid}/comm", pid).decode("utf-8", "surrogateescape")
    return text.removesuffix("\n")


def autogroup_nice(pid: int) -> int:
    """The nice value of the task's autogroup; 0 without CONFIG_SCHED_AUTOGROUP."""
    try:
        text = procfs.read_bytes(f"/proc/{pid}/autogroup", pid).decode()
    except (NoSuchTask, KernelError):
        return 0
    return int(text.split()[-1]) if " nice " in text else 0


def link_state(pid: int, name: str) -> tuple[str, bool]:
    """(path, deleted) of /proc/PID/cwd or root, as seen from this process's root."""
    magic = f"/proc/{pid}/{name}"
    path = procfs.link(magic)
    if not path.endswith(" (deleted)"):
        return path, False
    try:
        real, named = os.stat(magic), os.stat(path)
        return path, (real.st_dev, real.st_ino) != (named.st_dev, named.st_ino)
    except OSError:
        return path, True  # no directory really has this odd name


# ------------------------------------------------------------------ calls on another thread


def robust_list(tid: int) -> tuple[int, int]:
    """(head, length) as registered by set_robust_list; head 0 when there is none."""
    head, length = ctypes.c_uint64(), ctypes.c_uint64()
    what = f"get_robust_list({tid})"
    syscall(what, uapi.SYS_get_robust_list, tid, ctypes.byref(head), ctypes.byref(length))
    return head.value, length.value


def sched_getattr(tid: int) -> tuple[int, int, int, int, int, int, int]:
    """(policy, flags, nice, priority, runtime, deadline, period) of sched_attr."""
    size = us.sched_attr.size
    buffer = ctypes.create_string_buffer(size)
    syscall(f"sched_getattr({tid})", uapi.SYS_sched_getattr, tid, buffer, size, 0)
    _, policy, flags, nice, priority, runtime, deadline, period = us.sched_attr.unpack(buffer.raw)
    return policy, flags, nice, priority, runtime, deadline, period


def sched_setattr(
    tid: int, policy: int, flags: int, nice: int, priority: int, runtime: int, deadline: int, period: int
) -> None:
    """Set policy and parameters of one thread."""
    size = us.sched_attr.size
    raw = us.sched_attr.pack(size, policy, flags, nice, priority, runtime, deadline, period)
    buffer = ctypes.create_string_buffer(raw, size)
    syscall(f"sched_setattr({tid})", uapi.SYS_sched_setattr, tid, buffer, 0)


@lru_cache(maxsize=1)
def _has_clamps() -> bool:
    return os.path.exists("/proc/sys/kernel/sched_util_clamp_min")


def utilization(tid: int) -> tuple[int, int] | None:
    """The utilization clamps of one thread, lowest and highest; None without CONFIG_UCLAMP_TASK."""
    if not _has_clamps():
        return None
    size = us.sched_attr.size + us.sched_clamps.size
    buffer = ctypes.create_string_buffer(size)
    syscall(f"sched_getattr({tid})", uapi.SYS_sched_getattr, tid, buffer, size, 0)
    lowest, highest = us.sched_clamps.unpack_from(buffer.raw, us.sched_attr.size)
    return lowest, highest


def set_utilization(tid: int, lowest: int, highest: int) -> None:
    """Set them; policy and parameters stay."""
    size = us.sched_attr.size + us.sched_clamps.size
    flags = us.SCHED_FLAG_KEEP_ALL | us.SCHED_FLAG_UTIL_CLAMP
    raw = us.sched_attr.pack(size, 0, flags, 0, 0, 0, 0, 0) + us.sched_clamps.pack(lowest, highest)
    syscall(f"sched_setattr({tid})", uapi.SYS_sched_setattr, tid, ctypes.create_string_buffer(raw, size), 0)


def ioprio(tid: int) -> int:
    """ioprio_get of one thread."""
    return syscall(f"ioprio_get({tid})", uapi.SYS_ioprio_get, us.IOPRIO_WHO_PROCESS, tid)


def set_ioprio(tid: int, priority: int) -> None:
    """ioprio_set of one thread."""
    syscall(f"ioprio_set({tid})", uapi.SYS_ioprio_set, us.IOPRIO_WHO_PROCESS, tid, priority)


def nice(tid: int) -> int:
    """The nice value of one thread."""
    try:
        return os.getpriority(os.PRIO_PROCESS, tid)
    except OSError as error:
        raise kernel_error(f"getpriority({tid})", error.errno or 0) from None


def set_nice(tid: int, value: int) -> None:
    """Set the nice value of one thread."""
    try:
        os.setpriority(os.PRIO_PROCESS, tid, value)
    except OSError as error:
        raise kernel_error(f"setpriority({tid}, {value})", error.errno or 0) from None


def affinity(tid: int) -> frozenset[int]:
    """The CPUs on which a thread may run."""
    try:
        return frozenset(os.sched_getaffinity(tid))
    except OSError as error:
        raise kernel_error(f"sched_getaffinity({tid})", error.errno or 0) from None


def set_affinity(tid: int, mask: bytes) -> None:
    """Set the CPU mask (little-endian) of a thread; EINVAL when none of the CPUs exists."""
    buffer = ctypes.create_string_buffer(mask, len(mask))
    syscall(f"sched_setaffinity({tid})", uapi.SYS_sched_setaffinity, tid, len(mask), buffer)


def owner(pid: int) -> int:
    """Who owns /proc/PID/stat: the task's effective uid while the task is dumpable, else root."""
    try:
        return os.stat(f"/proc/{pid}/stat").st_uid
    except FileNotFoundError:
        raise NoSuchTask(f"there is no task {pid} (any more)", hint="check the pid with ps") from None
    except OSError as error:
        raise kernel_error(f"stat of /proc/{pid}/stat", error.errno or 0) from None


def send_signal(pid: int, tid: int | None, number: int) -> None:
    """kill(2), or tgkill(2) when a thread is named."""
    try:
        if tid is None:
            os.kill(pid, number)
        else:
            syscall(f"tgkill({pid}, {tid}, {number})", uapi.SYS_tgkill, pid, tid, number)
    except OSError as error:
        raise kernel_error(f"kill({pid}, {number})", error.errno or 0) from None
