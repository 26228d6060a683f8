"""Tasks blocked in epoll_wait, poll and select without a limit, woken by data."""

import os
import select

from target_api import checkpoint, child, exit_code, run


def main():
    pipes = [os.pipe() for _ in range(3)]

    def by_epoll():
        with select.epoll() as epoll:
            epoll.register(pipes[0][0], select.EPOLLIN)
            return 1 if epoll.poll() == [(pipes[0][0], 1)] else 9

    def by_poll():
        poll = select.poll()
        poll.register(pipes[1][0], select.POLLIN)
        return 2 if poll.poll() == [(pipes[1][0], 1)] else 9

    def by_select():
        return 3 if select.select([pipes[2][0]], [], [])[0] == [pipes[2][0]] else 9

    pids = [child(function) for function in (by_epoll, by_poll, by_select)]
    if checkpoint():
        os.kill(pids[1], 9)
    assert os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
    for _, writer in pipes:
        os.write(writer, b"x")
    assert [exit_code(pid) for pid in pids] == [1, 2, 3]


run(main)
