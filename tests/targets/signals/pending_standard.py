"""Pending standard signals, with who sent them."""

import os
import signal

from target_api import checkpoint, child, exit_code, run


def main():
    blocked = {signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    os.kill(os.getpid(), signal.SIGUSR1)
    os.kill(os.getpid(), signal.SIGUSR1)
    sender = child(lambda: os.kill(os.getppid(), signal.SIGTERM))
    assert exit_code(sender) == 0
    if checkpoint():
        signal.sigwait({signal.SIGUSR1})
    assert signal.sigpending() == {signal.SIGUSR1, signal.SIGTERM}
    info = signal.sigtimedwait({signal.SIGTERM}, 0)
    assert (info.si_signo, info.si_pid, info.si_code, info.si_uid) == (signal.SIGTERM, sender, 0, os.getuid())
    assert signal.sigtimedwait({signal.SIGUSR1}, 0).si_pid == os.getpid()
    assert signal.sigtimedwait(blocked, 0) is None


run(main)
