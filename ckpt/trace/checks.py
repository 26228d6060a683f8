"""What can be said of a task before it is touched."""

from __future__ import annotations

import os

from ckpt.errors import AlreadyTraced, NoSuchTask, TaskError
from ckpt.kernel import procfs


def check_task(pid: int) -> None:
    """Refuse what can never be frozen: no such pid, a kernel thread, ckpt itself, an already traced task."""
    if pid <= 0:
        raise NoSuchTask(f"{pid} is not a pid", hint="give the pid of a running task")
    stat = procfs.stat(pid)
    if stat.is_kernel_thread:
        raise TaskError(f"task {pid} ({stat.comm}) is a kernel thread", hint="only user processes can be dumped")
    if stat.state in "ZX":
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
