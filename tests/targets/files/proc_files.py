"""Files of /proc that are open: about the task, a thread, the system, a child."""

import os

from target_api import checkpoint, child, forever, run


def main():
    pid = child(forever)
    fds = {
        name: os.open(f"/proc/{name}", os.O_RDONLY)
        for name in (
            "self/status",
            f"{pid}/stat",
            "meminfo",
            "self",
            f"self/task/{os.getpid()}/comm",
            "sys/kernel/ostype",
        )
    }
    fdinfo = os.open(f"/proc/self/fdinfo/{fds['meminfo']}", os.O_RDONLY)
    if checkpoint():
        os.dup2(fds["meminfo"], fds["self/status"])
    assert f"Pid:\t{os.getpid()}\n".encode() in os.pread(fds["self/status"], 5000, 0)
    assert os.pread(fds[f"{pid}/stat"], 100, 0).startswith(b"%d " % pid)
    assert os.pread(fds["meminfo"], 100, 0).startswith(b"MemTotal")
    assert os.pread(fds["sys/kernel/ostype"], 100, 0) == b"Linux\n"
    assert os.readlink("exe", dir_fd=fds["self"]) == os.readlink("/proc/self/exe")
    assert os.read(fdinfo, 99).startswith(b"pos:") and os.read(os.open(f"/proc/self/fdinfo/{fdinfo}", 0), 1) == b"p"
    os.kill(pid, 9)


run(main)
