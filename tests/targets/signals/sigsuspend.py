"""A child in sigsuspend: its real mask comes back when the handler has run."""

import ctypes
import os
import signal

from target_api import checkpoint, child, eventually, exit_code, libc, run, status


def main():
    def suspended():
        seen = []
        signal.signal(signal.SIGUSR1, lambda *_: seen.append(1))
        signal.pthread_sigmask(signal.SIG_SETMASK, {signal.SIGUSR1, signal.SIGHUP})
        libc.sigsuspend((ctypes.c_ulong * 16)(1 << (signal.SIGTERM - 1)))
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, [])
        return 4 if seen == [1] and mask == {signal.SIGUSR1, signal.SIGHUP} else 5

    pid = child(suspended)
    eventually(lambda: status("SigBlk", pid) == f"{1 << 14:016x}", "suspended")
    if checkpoint():
        os.kill(pid, signal.SIGKILL)
    assert os.waitpid(pid, os.WNOHANG) == (0, 0)
    assert status("SigBlk", pid) == f"{1 << 14:016x}"
    os.kill(pid, signal.SIGUSR1)
    assert exit_code(pid) == 4


run(main)
