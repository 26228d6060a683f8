"""A child of the session leader has the controlling terminal, too: /dev/tty opens, and it sets the foreground group."""

import os
import pty
import signal

from target_api import checkpoint, exit_code, run


def job():
    """Gives 5 when the terminal is still the task's."""
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    os.write(1, b"up")
    os.read(0, 10)
    try:
        terminal = os.open("/dev/tty", os.O_RDWR)
        os.tcsetpgrp(terminal, os.getpgrp())
        return 5 if os.tcgetpgrp(0) == os.getpgrp() else 6
    except OSError:
        return 7


def main():
    pid, master = pty.fork()
    if pid == 0:
        signal.signal(signal.SIGTTOU, signal.SIG_IGN)
        made = os.fork()
        if made == 0:
            os.setpgid(0, 0)
            os.tcsetpgrp(0, os.getpid())
            os._exit(job())
        os._exit(exit_code(made))
    assert os.read(master, 2) == b"up"
    if checkpoint():
        os.close(master)
    os.write(master, b"go\n")
    assert exit_code(pid) == 5


run(main)
