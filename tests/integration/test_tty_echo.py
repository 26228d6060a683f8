"""Lines typed ahead are put back while the kernel's worker is kept waiting: they are not echoed once more.
root: not needed; guest: yes."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

from ckpt.kernel import tty_queue

LINES = tuple(b"line %d\n" % number for number in range(400))
ENDS = (b"", b"ended by ^D", b"", b"")


def test_what_is_put_back_is_not_echoed_again() -> None:
    master, slave = pty.openpty()
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)]
    try:
        for round_ in range(60):
            queues = tty_queue.Queues(lines=LINES + ENDS[: round_ % 5], rest=b"not complete"[: round_ % 7])
            with tty_queue.slave_of(master) as opened:
                tty_queue.put(master, opened, queues, patient=True)
                found = tty_queue.take(master, opened)
            assert found == queues, f"round {round_}: {found.output[:60]!r} is echoed"
    finally:
        for process in busy:
            process.kill()
            process.wait()
        os.close(master)
        os.close(slave)
