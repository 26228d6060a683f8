"""A child in pause, one in epoll_pwait and one in ppoll with a mask, each ended by a signal."""

import ctypes
import os
import select
import signal

from target_api import checkpoint, child, eventually, exit_code, libc, run, state, status


def main():
    mask = (ctypes.c_ulong * 16)(1 << (signal.SIGHUP - 1))
    poller = select.epoll()

    def wait(function):
        seen = []
        signal.signal(signal.SIGUSR1, lambda *_: seen.append(1))
        function()
        return 30 + len(seen)

    waits = [
        lambda: signal.pause(),
        lambda: libc.epoll_pwait(poller.fileno(), ctypes.create_string_buffer(12), 1, -1, mask),
        lambda: libc.ppoll(None, 0, None, mask),
    ]
    pids = [child(wait, function) for function in waits]
    eventually(lambda: all(status("SigBlk", pid) == f"{1:016x}" for pid in pids[1:]), "waiting")
    eventually(lambda: int(status("SigCgt", pids[0]), 16) & 1 << 9, "handler")
    eventually(lambda: state(pids[0]) == "S", "in pause")
    if checkpoint():
        os.kill(pids[1], signal.SIGKILL)
    for pid in pids:
        assert os.waitpid(pid, os.WNOHANG) == (0, 0)
    for pid in pids:
        os.kill(pid, signal.SIGUSR1)
    assert [exit_code(pid) for pid in pids] == [31, 31, 31]


run(main)
