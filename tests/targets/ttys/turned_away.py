"""Children of a session's leader without the controlling terminal: one gave it up, one was born before it was there."""

import fcntl
import os
import pty
import termios

from target_api import checkpoint, exit_code, run


def has_terminal():
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
        return True
    except OSError:
        return False


def asked(pipe):
    """A child's life: 5 when it has no terminal."""
    os.read(pipe, 1)
    os._exit(6 if has_terminal() else 5)


def leader(master, slave, ready):
    os.setsid()
    os.close(master)
    pipe, end = os.pipe()
    early = os.fork()
    if early == 0:
        os.close(end)
        asked(pipe)
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    away = os.fork()
    if away == 0:
        os.close(end)
        terminal = os.open("/dev/tty", os.O_RDWR)
        fcntl.ioctl(terminal, termios.TIOCNOTTY)
        os.close(terminal)
        os.write(ready, b"x")
        asked(pipe)
    with_it = os.fork()
    if with_it == 0:
        os.close(end)
        asked(pipe)
    os.close(pipe)
    os.read(slave, 10)
    os.close(end)
    os._exit(0 if [exit_code(pid) for pid in (early, away, with_it)] == [5, 5, 6] and has_terminal() else 1)


def main():
    master, slave = pty.openpty()
    told, ready = os.pipe()
    pid = os.fork()
    if pid == 0:
        leader(master, slave, ready)
    os.close(slave)
    os.close(ready)
    os.read(told, 1)
    if checkpoint():
        os.close(master)
    os.write(master, b"go\n")
    assert exit_code(pid) == 0


run(main)
