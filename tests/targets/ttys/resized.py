"""SIGWINCH reaches the foreground group, and the hang-up of the master the session."""

import fcntl
import itertools
import os
import pty
import signal
import struct
import termios
import time

from target_api import checkpoint, exit_code, run


def main():
    reader, writer = os.pipe()
    pid, master = pty.fork()
    if pid == 0:
        seen = []
        signal.signal(signal.SIGWINCH, lambda *_: seen.append(os.get_terminal_size(0)))
        signal.signal(signal.SIGHUP, lambda *_: os._exit(20 if seen == [(99, 44)] else 21))
        os.write(writer, b"r")
        for told in itertools.count():
            while len(seen) == told:  # it may come before pause() could wait for it
                time.sleep(0.01)
            os.write(writer, b"w")
    os.read(reader, 1)
    if checkpoint():
        fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("4H", 1, 2, 0, 0))
        os.read(reader, 1)
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("4H", 44, 99, 0, 0))
    os.read(reader, 1)
    os.close(master)
    assert exit_code(pid) == 20


run(main)
