"""Output stopped by ^S, and by tcflow, with bytes already on their way; both go on when they are told."""

import os
import pty
import select
import termios
import time

from target_api import checkpoint, eventually, run


def writable(slave):
    return bool(select.select([], [slave], [], 0)[1])


def main():
    (one, typed), (two, called) = pty.openpty(), pty.openpty()
    os.write(typed, b"before")
    os.write(one, b"\x13")
    os.write(called, b"before")
    termios.tcflow(called, termios.TCOOFF)
    eventually(lambda: not writable(typed) and not writable(called))
    if checkpoint():
        os.write(one, b"\x11")
    assert not writable(typed) and not writable(called)
    termios.tcflow(typed, termios.TCOON)  # ends only what tcflow began
    os.write(two, b"\x11")
    time.sleep(0.1)
    assert not writable(typed) and not writable(called)
    os.write(one, b"\x11")
    termios.tcflow(called, termios.TCOON)
    eventually(lambda: writable(typed) and writable(called))
    for master, slave in ((one, typed), (two, called)):
        os.write(slave, b" after")
        assert os.read(master, 6) == b"before" and os.read(master, 20).endswith(b" after")


run(main)
