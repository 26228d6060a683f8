"""comm, command line and environment of a task that has renamed itself."""

from pathlib import Path

from target_api import checkpoint, child, exit_code, libc, run, wait_for_go


def name():
    return Path("/proc/self/comm").read_bytes()


def main():
    def other():
        libc.prctl(15, b"the child", 0, 0, 0)
        wait_for_go()
        return name() != b"the child\n"

    pid = child(other)
    libc.prctl(15, b"odd ) name \xff(", 0, 0, 0)
    if checkpoint():
        libc.prctl(15, b"x", 0, 0, 0)
    assert name() == b"odd ) name \xff(\n", name()
    assert exit_code(pid) == 0


run(main)
