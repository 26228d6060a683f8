"""Namespaces: the tree is rebuilt in ckpt's own; those in which little is are made again, all others are refused."""

from __future__ import annotations

import os

from ckpt.records.support import Support
from ckpt.state import own_namespaces
from ckpt.state.context import CollectContext, FrozenTaskLike

SUPPORT = Support(
    "tasks",
    "namespaces",
    "those that ckpt runs in; of the tree's own: UTS, a network of nothing but a loopback, IPC without objects",
    refused="another mount, pid, user, cgroup or time namespace, a network or IPC namespace in which there is more, "
    "one that others are in or that is mounted (run ckpt inside it, with nsenter)",
    lost="system settings (sysctl) of a network or IPC namespace; addresses, routes and rules on the loopback",
)

_KINDS = {
    "mnt": ("mount", "-m"),
    "net": ("network", "-n"),
    "pid": ("pid", "-p"),
    "pid_for_children": ("pid", "-p"),
    "user": ("user", "-U"),
    "uts": ("UTS", "-u"),
    "ipc": ("IPC", "-i"),
    "cgroup": ("cgroup", "-C"),
    "time": ("time", "-T"),
    "time_for_children": ("time", "-T"),
}
# That one thread of a process may leave by itself; the user namespace only a process with one thread.
_OF_A_THREAD = ("mnt", "net", "uts", "ipc", "cgroup", "pid_for_children", "time_for_children")
_UNBORN = (0, 0)  # a pid namespace that waits for its first process has no file yet


def _identity(tid: int, name: str) -> tuple[int, int] | None:
    path = f"/proc/{tid}/ns/{name}"
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return _UNBORN if os.path.lexists(path) else None  # no such kind in this kernel
    except OSError:
        return None  # not ours to look at
    return found.st_dev, found.st_ino


def check_namespaces(task: FrozenTaskLike, context: CollectContext) -> None:
    """Refuse the task for each namespace that is not ckpt's."""
    known: dict[str, tuple[int, int] | None] = context.shared.setdefault("namespaces.own", {})
    refused: set[str] = set()
    for tid in task.tids:
        for name in _KINDS if tid == task.tids[0] else _OF_A_THREAD:
            words, option = _KINDS[name]
            if name not in known:
                known[name] = _identity(os.getpid(), name)
            theirs, ours = _identity(tid, name), known[name]
            if theirs is None or ours is None or theirs == ours or words in refused:
                continue
            if name in own_namespaces.KINDS:
                own_namespaces.found(context, name, theirs, task.pid, tid)
                continue
            refused.add(words)
            context.refuse(
                task.pid,
                f"its {words} namespace",
                "is not the one that ckpt runs in" if not name.endswith("children") else "of its children is another",
                f"run ckpt inside it: nsenter -t {tid} {option} ckpt …"
                if theirs != _UNBORN
                else "nobody is in it yet: start the task without unshare(CLONE_NEWPID)",
            )
