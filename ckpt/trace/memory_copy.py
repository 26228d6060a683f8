"""A copy of a frozen task's memory: a copy-on-write fork that never runs, to be read when the task goes on.

The task makes a helper that shares its memory (CLONE_VM); the helper leaves session and descriptors behind, makes the
copy and ends, and the task waits for it, all in the freeze. So the copy is no child that the task could hear of: init
(or a subreaper) adopts it. It holds no file open, and stands in its first stop from birth to death.

If ckpt dies, helper and copy find themselves on a stack whose frame leads to exit_group, the task on one whose frame
leads to wait4 and then to its own registers. A copy that is complete is killed by PTRACE_O_EXITKILL.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ckpt.errors import CkptError, NoSuchTask
from ckpt.kernel import procfs, uapi
from ckpt.kernel import ptrace_requests as ptrace
from ckpt.kernel import uapi_restore as restoring
from ckpt.kernel.memory import Memory
from ckpt.trace.remote import LiveRemote
from ckpt.trace.stepper import Stepper

NAME = b"ckpt-copy\0"
_HELPER_FLAGS = uapi.CLONE_VM | uapi.CLONE_FILES | uapi.CLONE_FS
_ALL_FDS = 0xFFFFFFFF
_NAMESPACES = (("pid", "pid_for_children"), ("time", "time_for_children"))


@dataclass
class MemoryCopy:
    """The stopped process that holds the copy; `end` is safe to call twice."""

    pid: int

    def intact(self) -> bool:
        """Whether it has stood still until now: a killed one never stops again."""
        try:
            return procfs.state(self.pid) == "t"
        except NoSuchTask:
            return False

    def end(self) -> None:
        """Kill it and reap it as its tracer; who adopted it reaps the rest."""
        pid, self.pid = self.pid, 0
        if not pid:
            return
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            while os.WIFSTOPPED(os.waitpid(pid, restoring.WALL)[1]):
                continue


def why_not(pid: int) -> str | None:
    """Why a child of this task would be noticed, or lives in another namespace."""
    for own, children in _NAMESPACES:
        try:
            if procfs.link(f"/proc/{pid}/ns/{own}") != procfs.link(f"/proc/{pid}/ns/{children}"):
                return f"the children of task {pid} are born in another {own} namespace"
        except CkptError:
            continue  # this kernel has no such namespaces
    return None


def copy_memory(remote: LiveRemote) -> MemoryCopy:
    """Fork the memory of a frozen task; KernelError when the kernel refuses (limits, memory)."""
    stack = remote.way_out()
    with remote.through(restoring.SYS_wait4, -1, 0, uapi.WCLONE | uapi.WNOTHREAD, 0):
        inside, helper = remote.clone(_HELPER_FLAGS, stack)
        remote.instead(restoring.SYS_wait4, inside, 0, restoring.WALL, 0)
        try:
            copy = _from_helper(remote, helper, stack)
        finally:
            helper.leave()
            remote.syscall(restoring.SYS_wait4, inside, 0, restoring.WALL, 0)
    try:
        with Memory(copy.pid, write=True) as memory:
            for address, own in remote.overwritten:
                memory.write(address, own)
    except BaseException:
        copy.end()
        raise
    return copy


def _from_helper(remote: LiveRemote, helper: Stepper, stack: int) -> MemoryCopy:
    name = remote.put(NAME, remote.scratch_size - 16)
    for call in (
        (uapi.SYS_prctl, restoring.PR_SET_NAME, name),
        (uapi.SYS_setsid,),  # out of reach of signals to the task's group, and of its numbers at a restore
        (uapi.SYS_close_range, 0, _ALL_FDS, uapi.CLOSE_RANGE_UNSHARE),
    ):
        helper.load(*call)
        helper.run(call[0])
    helper.load(uapi.SYS_clone, uapi.CLONE_FILES, stack, 0, 0, 0)
    helper.run(uapi.SYS_clone)
    copy = MemoryCopy(helper.newborn(stack).tid)
    try:
        ptrace.setoptions(copy.pid, uapi.PTRACE_O_EXITKILL)
        with suppress(OSError):  # when memory runs out, it is the copy that has to go
            Path(f"/proc/{copy.pid}/oom_score_adj").write_text("1000")
    except BaseException:
        copy.end()
        raise
    return copy
