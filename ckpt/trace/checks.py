"""What can be said of a task before it is touched."""

from __future__ import annotations

import os
import time

from ckpt.errors import AlreadyTraced, FreezeTimeout, KernelError, NoSuchTask, TaskError
from ckpt.kernel import ownership, procfs, taskinfo
from ckpt.kernel.cgroup_freezer import frozen_one
from ckpt.kernel.libc import kernel_error
from ckpt.trace import vforks

_VFORK_PATIENCE = 0.5  # seconds


def check_task(pid: int) -> None:
    """Refuse what can never be frozen: no such pid, a kernel thread, ckpt itself, an already traced task."""
    if pid <= 0:
        raise NoSuchTask(f"{pid} is not a pid", hint="give the pid of a running task")
    stat = procfs.stat(pid)
    if stat.is_kernel_thread:
        raise TaskError(f"task {pid} ({stat.comm}) is a kernel thread", hint="only user processes can be dumped")
    if stat.state in "ZX" and len(procfs.threads(pid)) < 2 and procfs.stat(pid).state in "ZX":
        raise NoSuchTask(f"task {pid} ({stat.comm}) has ended and is a zombie", hint="its parent must wait for it")
    status = procfs.status(pid)
    tgid = int(status["Tgid"])
    if tgid != pid:
        raise TaskError(f"{pid} is a thread of task {tgid}, not a task", hint=f"use -t {tgid}")
    if pid == os.getpid():
        raise TaskError("ckpt cannot dump itself", hint="run ckpt in another process")
    if tracer := int(status.get("TracerPid", "0")):
        raise already_traced(pid, tracer)


def already_traced(pid: int, tracer: int) -> AlreadyTraced:
    """The error for a task that has a tracer."""
    return AlreadyTraced(
        f"task {pid} is already traced by process {tracer}", hint=f"end the debugger or tracer {tracer} first"
    )


def inside(root: int) -> TaskError:
    """The error for a tree that ckpt itself is in."""
    return TaskError(
        f"ckpt runs inside the tree of task {root}", hint="start ckpt from outside the tree that is to be dumped"
    )


def not_permitted(pid: int, status: dict[str, str], number: int) -> KernelError:
    """The error for a task that this user may not trace: what of it forbids that (ptrace(2), access mode checking)."""
    uids, gids = (set(map(int, status[key].split()[:3])) for key in ("Uid", "Gid"))
    what = f"task {pid} of user {min(uids)} cannot be seized by user {os.getuid()}"
    hint = "run ckpt as the task's user or as root"
    if len(uids) > 1:
        hint = "run ckpt as root, for it has the ids of several users"
    elif uids == {os.getuid()} and gids != {os.getgid()}:
        what, hint = f"{what}: it is of group {min(gids)}", "run ckpt with that group (sg, newgrp) or as root"
    elif uids == {os.getuid()} and int(status["CapPrm"], 16):
        what, hint = f"{what}: it has capabilities", "run ckpt as root"
    elif uids == {os.getuid()} and not _dumpable(pid):
        what = f"{what}: it is not dumpable"
        hint = "run ckpt as root; PR_SET_DUMPABLE makes a task so, and a program that its user may not read"
    elif uids == {os.getuid()}:
        hint = "run ckpt as root; kernel.yama.ptrace_scope above 0 or a container's seccomp profile forbids it"
    if not os.getuid():
        hint = "run ckpt with CAP_SYS_PTRACE, in the task's user namespace; a container's seccomp profile may forbid it"
    return kernel_error(what, number, hint=hint)


def _dumpable(pid: int) -> bool:
    try:
        return ownership.dumpable(pid, os.getuid())
    except OSError:
        return True  # it has ended


def wait_until_stoppable(root: int, deadline: float) -> set[int]:
    """Until no thread of the tree waits in the kernel without a way out, at most `deadline` seconds.

    One that is seized meanwhile would stand still as soon as it wakes, and only the end of ckpt would free it.
    TaskError for one in a frozen cgroup, which stops for a tracer and then runs no call for it.
    Gives the threads that wait in vfork, for a child that does not seem to be about to execute a program.
    """
    waiting: set[int] = set()
    frozen: dict[tuple[str, ...], str] = {}
    end = time.monotonic() + deadline
    todo = [root]
    while todo:
        pid = todo.pop()
        try:
            tids = procfs.threads(pid)
            todo += procfs.children(pid, tids)
            for tid in tids:
                _check_cgroups(pid, tid, frozen)
                short = min(end, time.monotonic() + _VFORK_PATIENCE)
                while procfs.state(pid, tid) == "D":
                    if time.monotonic() > short and vforks.child_of(pid, tid):
                        waiting.add(tid)
                        break
                    if time.monotonic() > end:
                        raise does_not_stop(pid, tid, deadline)
                    time.sleep(0.001)
        except NoSuchTask:
            continue  # it has ended
    return waiting


def _check_cgroups(pid: int, tid: int, known: dict[tuple[str, ...], str]) -> None:
    lines = taskinfo.cgroups(tid)
    if lines not in known:
        known[lines] = frozen_one(lines)
    if known[lines]:
        raise TaskError(
            f"thread {tid} of task {pid} is in the cgroup {known[lines]}, which is frozen; nothing was touched",
            hint="thaw the cgroup (cgroup.freeze, freezer.state, or what paused the container) for the round",
        )


def does_not_stop(pid: int, tid: int, deadline: float) -> FreezeTimeout:
    """The error for a thread that is still on its way after `deadline` seconds."""
    try:
        state = procfs.state(pid, tid)
        wchan = procfs.read_bytes(f"/proc/{pid}/task/{tid}/wchan", pid).decode()
        child, words = vforks.child_of(pid, tid), ""
        if not child and (child := vforks.child_of(pid, tid, apart=True)):
            words = ", which has a memory of its own (CLONE_VFORK without CLONE_VM),"
    except (NoSuchTask, KernelError):
        state, wchan, child = "?", "", 0
    if child:
        return FreezeTimeout(
            f"thread {tid} of task {pid} waits in vfork for task {child}{words} and cannot be frozen (tried for "
            f"{deadline:g} s); nothing was touched",
            hint=f"try again when task {child} has executed a program or ended",
        )
    return FreezeTimeout(
        f"thread {tid} of task {pid} did not stop in {deadline:g} s (state {state}, in {wchan or '?'}); "
        "everything was thawed again",
        hint="it waits in the kernel without a way out (a vfork child, a hung device or network file system): "
        "try again later or raise --timeout",
    )
