"""A descriptor table shared by a task and its grandchild, which the task between them has left (unshare)."""

import os
import signal

from target_api import DIR, checkpoint, eventually, exit_code, libc, publish, run, wait_for_go

CLONE_FILES = 0x400


def sharing(function):
    pid = libc.syscall(56, CLONE_FILES | signal.SIGCHLD, 0, 0, 0, 0)
    if pid == 0:
        os._exit(function() or 0)
    return pid


def name(fd):
    return os.readlink(f"/proc/self/fd/{fd}")


def main():
    shared = os.open(DIR / "shared", os.O_RDWR | os.O_CREAT)

    def grandchild():
        publish("grandchild", "")
        wait_for_go()
        theirs = os.open(DIR / "theirs", os.O_RDWR | os.O_CREAT)
        os.write(theirs, b"of the grandchild")
        publish("number", str(theirs))
        eventually((DIR / "seen").exists, "it was seen")

    def child():
        pid = sharing(grandchild)
        eventually((DIR / "grandchild").exists, "the grandchild is there")
        libc.unshare(CLONE_FILES)
        os.close(shared)
        own = os.open(DIR / "own", os.O_RDWR | os.O_CREAT)
        publish("child", "")
        wait_for_go()
        return own != shared or name(own) != str(DIR / "own") or exit_code(pid)

    pid = sharing(child)
    eventually((DIR / "child").exists, "the child has a table of its own")
    if checkpoint(same=False):
        os.close(shared)
    assert name(shared) == str(DIR / "shared")
    eventually((DIR / "number").exists, "the grandchild opened a file")
    assert os.pread(int((DIR / "number").read_text()), 99, 0) == b"of the grandchild"
    publish("seen", "")
    assert exit_code(pid) == 0


run(main)
