"""Ending a frozen tree: the deepest tasks first, and each is reaped by its parent before that one ends.

Whoever is left to its adopter keeps its pid until that one waits, and a first process of a container may never do so.

No lock may show that its owner was killed: the kernel would say so in files that the tree maps (robust futex lists).
"""

from __future__ import annotations

import os
import signal
import struct
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from ckpt.errors import CkptError, KernelError
from ckpt.kernel import ptrace_requests as ptrace
from ckpt.kernel import taskinfo
from ckpt.kernel import uapi_restore as ur
from ckpt.kernel import uapi_state as us
from ckpt.kernel.memory import Memory
from ckpt.kernel.namespaces import INIT
from ckpt.trace.release import kill
from ckpt.trace.remote import LiveRemote

if TYPE_CHECKING:
    from ckpt.trace.freezer import FrozenTree
    from ckpt.trace.frozen import FrozenTask


def end(tree: FrozenTree, deadline: float) -> None:
    """Kill every task and wait, for `deadline` seconds, until all are gone or zombies of somebody else."""
    until = time.monotonic() + deadline
    for task in tree.tasks.values():
        for tid in task.threads:
            with suppress(CkptError):
                forget_locks(tid, partial(_end_with_us, task, tid))
    levels = _levels(tree)
    in_vfork = any(thread.child is not None for thread in tree.threads())  # it would go on at the end of its child
    if (len(levels) > 1 or tree.zombies) and not in_vfork:
        with suppress(CkptError):  # the rest is for those who adopt them
            _from_below(tree, levels, until)
    if INIT in tree.tasks:
        init = tree.tasks[INIT]
        for remote in [init.remote(tid) for tid in init.threads]:
            if isinstance(remote, LiveRemote):
                remote.end_with_us()
    LiveRemote.forget()
    _kill(tree, tree.tasks, until)


def forget_locks(tid: int, before: Callable[[], None] | None = None) -> None:
    """Let the kernel find no lock that a stopped thread holds when it ends; `before`: what comes before the change."""
    head, _ = taskinfo.robust_list(tid)
    if not head:
        return
    with Memory(tid, write=True) as memory:
        first, _, pending = us.robust_list_head.unpack(memory.read(head, us.robust_list_head.size))
        if first == head and not pending:
            return
        if before is not None:
            before()
        memory.write(head, struct.pack("<Q", head))
        memory.write(head + us.robust_list_head.size - 8, bytes(8))


def _end_with_us(task: FrozenTask, tid: int) -> None:
    """From now on the thread does not outlive ckpt."""
    remote = task.remote(tid)
    if isinstance(remote, LiveRemote):
        remote.end_with_us()


def _levels(tree: FrozenTree) -> list[list[int]]:
    """The pids by their depth; the root first."""
    found: list[list[int]] = []
    for pid in tree.tasks:
        depth, above = 0, tree.parents.get(pid)
        while above is not None and depth < len(tree.tasks):
            depth, above = depth + 1, tree.parents.get(above)
        found += [[] for _ in range(depth + 1 - len(found))]
        found[depth].append(pid)
    return found


def _from_below(tree: FrozenTree, levels: list[list[int]], until: float) -> None:
    for task in tree.tasks.values():
        remote = task.remote()
        if isinstance(remote, LiveRemote):
            remote.end_with_us()  # half a tree must not go on should ckpt die
    children: dict[int, list[int]] = {}
    for child, parent in tree.parents.items():
        children.setdefault(parent, []).append(child)
    for depth in reversed(range(len(levels))):
        for pid in levels[depth]:
            calls = [(ur.SYS_wait4, child, 0, os.WNOHANG | us.WALL, 0) for child in children.get(pid, ())]
            if calls:
                tree.tasks[pid].remote().run_all(calls)
        LiveRemote.forget()
        if depth:
            _kill(tree, levels[depth], until)


def _kill(tree: FrozenTree, pids: Iterable[int], until: float) -> None:
    left = set()
    for pid in pids:
        if pid == INIT:  # no signal from within its namespace ends it: it stands still, and ends with ckpt's worker
            continue
        left |= set(tree.tasks[pid].threads)
        kill(pid, signal.SIGKILL)
    while left and time.monotonic() < until:
        left = {tid for tid in left if not _gone(tid)}
        if left:
            time.sleep(0.0005)


def _gone(tid: int) -> bool:
    """Wait for a killed tracee; True when it has ended."""
    try:
        pid, status = os.waitpid(tid, os.WNOHANG | us.WALL)
    except ChildProcessError:
        return True
    if pid == 0:
        return False
    if os.WIFSTOPPED(status):
        with suppress(KernelError):
            ptrace.cont(tid, 0)
        return False
    return True
