"""A child that becomes another program between the rounds."""

import os
import signal
from pathlib import Path

from target_api import checkpoint, child, eventually, forever, run


def main():
    def become():
        signal.signal(signal.SIGUSR1, lambda *_: os.execvp("sleep", ["sleep", "997"]))
        os.write(writer, b"r")
        forever()

    reader, writer = os.pipe()
    pid = child(become)
    os.read(reader, 1)

    def step(n):
        if n == 2:
            os.kill(pid, signal.SIGUSR1)
            eventually(lambda: Path(f"/proc/{pid}/cmdline").read_bytes() == b"sleep\x00997\x00", "exec")

    if checkpoint(step):
        os.kill(pid, 9)
        os.waitpid(pid, 0)
    assert Path(f"/proc/{pid}/cmdline").read_bytes() in (b"sleep\x00997\x00", Path("/proc/self/cmdline").read_bytes())
    os.kill(pid, signal.SIGTERM)
    assert os.waitpid(pid, 0)[1] == signal.SIGTERM


run(main)
