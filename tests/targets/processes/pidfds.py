"""pidfds of the task itself, a child, a zombie, a task that is gone, one opened non-blocking, in an epoll set."""

import os
import select
import signal

from target_api import checkpoint, child, eventually, exit_code, forever, run, state


def main():
    living, gone, zombie = child(forever), child(lambda: 3), child(lambda: 4)
    fds = {name: os.pidfd_open(pid) for name, pid in (("self", os.getpid()), ("living", living), ("gone", gone))}
    fds["zombie"] = os.pidfd_open(zombie)
    fds["nonblock"] = os.pidfd_open(living, os.O_NONBLOCK)
    exit_code(gone)
    eventually(lambda: state(zombie) == "Z")
    epoll = select.epoll()
    epoll.register(fds["living"], select.EPOLLIN)
    if checkpoint():
        os.close(fds["gone"])
        os.dup2(fds["self"], fds["gone"])
    ready = {name: bool(select.select([fd], [], [], 0)[0]) for name, fd in fds.items()}
    assert ready == {"self": False, "living": False, "gone": True, "zombie": True, "nonblock": False}, ready
    try:
        signal.pidfd_send_signal(fds["gone"], 0)
        raise AssertionError("it lives")
    except ProcessLookupError:
        pass
    signal.pidfd_send_signal(fds["self"], 0)
    assert os.waitid(os.P_PIDFD, fds["zombie"], os.WEXITED).si_status == 4
    assert epoll.poll(0) == []
    signal.pidfd_send_signal(fds["living"], signal.SIGKILL)
    assert epoll.poll(20) == [(fds["living"], select.EPOLLIN)]
    assert os.waitid(os.P_PIDFD, fds["living"], os.WEXITED).si_status == signal.SIGKILL


run(main)
