"""What /proc says of a task that does not run: equal before a dump and after the restore."""

from __future__ import annotations

import os
import re
from pathlib import Path

from ckpt.kernel import procfs

_STATUS = (
    "Name", "Umask", "Tgid", "Pid", "PPid", "Uid", "Gid", "Groups", "SigPnd", "ShdPnd", "SigBlk", "SigIgn", "SigCgt",
    "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "Seccomp_filters", "Threads",
    "THP_enabled", "Cpus_allowed",
)  # fmt: skip
# Tracking marks, the accounting of fresh mappings and what only a page fault leaves behind are no state of the task.
_PASSING_FLAGS = {"sd", "ac", "uw", "um", "gu"}


def task_facts(pid: int) -> dict[str, object]:
    """Everything comparable about a process and its threads."""
    stat = procfs.stat(pid)
    facts: dict[str, object] = {
        "ids": (stat.ppid, stat.pgid, stat.sid, stat.exit_signal),
        "mm": (
            stat.start_code, stat.end_code, stat.start_stack, stat.start_data, stat.end_data, stat.start_brk,
            stat.arg_start, stat.arg_end, stat.env_start, stat.env_end,
        ),
        "maps": _mappings(pid),
        "fds": {fd: _descriptor(pid, fd) for fd in sorted(os.listdir(f"/proc/{pid}/fd"), key=int)},
    }  # fmt: skip
    for name in (
        "auxv",
        "cmdline",
        "environ",
        "limits",
        "personality",
        "oom_score_adj",
        "coredump_filter",
        "timerslack_ns",
    ):
        facts[name] = Path(f"/proc/{pid}/{name}").read_bytes()
    for name in ("exe", "cwd", "root"):
        facts[name] = os.readlink(f"/proc/{pid}/{name}")
    for tid in procfs.threads(pid):
        status = procfs.status(pid, tid)
        facts[f"thread {tid}"] = {key: status.get(key) for key in _STATUS}
        facts[f"syscall {tid}"] = Path(f"/proc/{pid}/task/{tid}/syscall").read_text().split()[:7]
    return facts


def _mappings(pid: int) -> list[tuple[object, ...]]:
    """The maps; anonymous neighbours that differ in nothing count as one, for the kernel may merge them."""
    found: list[list[object]] = []
    for m in procfs.smaps(pid):
        what = [m.perms, m.offset, _name(m.path), sorted(set(m.vm_flags) - _PASSING_FLAGS)]
        if found and not m.ino and found[-1][1] == m.start and found[-1][2:] == what:
            found[-1][1] = m.end
        else:
            found.append([m.start, m.end, *what])
    return [tuple(entry) for entry in found]


def _name(path: str) -> str:
    return re.sub(r"^/(dev/zero|memfd:.*) \(deleted\)$", r"/\1", path)


def _descriptor(pid: int, fd: str) -> tuple[str, str, str]:
    info = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/fdinfo/{fd}").read_text().splitlines() if ":" in line)
    link = os.readlink(f"/proc/{pid}/fd/{fd}")
    return re.sub(r"\[\d+\]", "[]", link), info["pos"].strip(), info["flags"].strip()
