"""A program that runs from a memfd which is open for writing, and one that is yet to be executed."""

import os
import sys

from target_api import checkpoint, eventually, exit_code, run


def program(path):
    memfd = os.memfd_create("program", os.MFD_CLOEXEC)
    with open(path, "rb") as file:
        os.write(memfd, file.read())
    return memfd


def execute(memfd, *arguments):
    pid = os.fork()
    if pid == 0:
        os.execve(memfd, arguments, {"PATH": os.environ["PATH"]})
    return pid


def main():
    sleeping, shell = program("/bin/sleep"), program("/bin/sh")
    offset = os.lseek(shell, 5, os.SEEK_SET)
    os.set_blocking(shell, False)
    pid = execute(sleeping, "sleep", "1000")
    eventually(lambda: os.readlink(f"/proc/{pid}/exe") == "/memfd:program (deleted)")
    if checkpoint():
        sys.exit("tampered")
    assert os.readlink(f"/proc/{pid}/exe") == "/memfd:program (deleted)"
    assert os.lseek(shell, 0, os.SEEK_CUR) == offset and not os.get_blocking(shell)
    assert exit_code(execute(shell, "sh", "-c", "exit 7")) == 7
    os.kill(pid, 9)
    assert exit_code(pid) == -9


run(main)
