"""In a cgroup of its own, made for it: back in the same one."""

import errno
import os
from pathlib import Path

from target_api import Skip, checkpoint, child, eventually, exit_code, run, wait_for_go


def mine():
    return Path("/proc/self/cgroup").read_text()


def removed(group):
    try:
        group.rmdir()
    except OSError as error:
        if error.errno != errno.EBUSY:  # a task that was waited for may be in it for a moment yet
            raise
        return False
    return True


def main():
    found = [p for p in (Path("/sys/fs/cgroup/pids"), Path("/sys/fs/cgroup")) if (p / "cgroup.procs").exists()]
    if not found:
        raise Skip("no cgroups")
    group = found[0] / f"ckpt-target-{os.getpid()}"
    try:
        group.mkdir()
        (group / "cgroup.procs").write_text(str(os.getpid()))
    except OSError as error:
        raise Skip(str(error)) from None
    try:

        def member():
            before = mine()
            wait_for_go()
            return 5 if mine() == before else 6

        pid = child(member)
        before = mine()
        assert group.name in before
        checkpoint()
        assert mine() == before
        assert exit_code(pid) == 5
    finally:
        (found[0] / "cgroup.procs").write_text(str(os.getpid()))
        eventually(lambda: removed(group), "the group is empty")


run(main)
