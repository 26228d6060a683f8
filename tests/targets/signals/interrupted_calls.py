"""Signals to a child in slow calls: SA_RESTART restarts them, without it they end."""

import os
import signal
import time

from target_api import DIR, checkpoint, child, eventually, exit_code, run, status


def main():
    reader, writer = os.pipe()

    def blocked():
        seen = []
        signal.signal(signal.SIGUSR1, lambda *_: seen.append(1))
        signal.siginterrupt(signal.SIGUSR1, False)
        (DIR / "child").touch()
        data = os.read(reader, 10)
        return 12 if seen and data == b"data" else 13

    pid = child(blocked)
    eventually((DIR / "child").exists, "child")
    checkpoint()
    for _ in range(2):
        os.kill(pid, signal.SIGUSR1)
        eventually(lambda: int(status("ShdPnd", pid), 16) == 0, "delivered", 60)
        time.sleep(0.2)  # CPython runs its handler when read has returned to it
    os.write(writer, b"data")
    assert exit_code(pid) == 12


run(main)
