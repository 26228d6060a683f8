"""A child on a controlling terminal: session, foreground group, and ^C reaching it."""

import os
import pty
import signal
import time

from target_api import checkpoint, eventually, exit_code, run


def main():
    reader, writer = os.pipe()
    pid, master = pty.fork()
    if pid == 0:
        seen = []
        signal.signal(signal.SIGINT, lambda *_: seen.append(1))
        os.write(writer, b"r")
        while not seen:
            time.sleep(0.01)
        ok = os.open("/dev/tty", os.O_RDWR) >= 0 and os.tcgetpgrp(0) == os.getpid() == os.getsid(0)
        os._exit(5 if ok else 6)
    os.read(reader, 1)
    if checkpoint():
        os.close(master)
    assert os.tcgetpgrp(master) == pid
    os.write(master, b"\x03")
    assert exit_code(pid) == 5
    assert eventually


run(main)
