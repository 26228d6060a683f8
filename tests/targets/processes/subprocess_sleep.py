"""A child that has run another program (vfork and exec)."""

import subprocess
from pathlib import Path

from target_api import checkpoint, eventually, run


def main():
    process = subprocess.Popen(["sleep", "1000"])
    command = Path(f"/proc/{process.pid}/cmdline")
    eventually(lambda: command.read_bytes() == b"sleep\x001000\x00", "it has executed the program")
    if checkpoint():
        process.kill()
        process.wait()
    assert process.poll() is None
    assert command.read_bytes() == b"sleep\x001000\x00"
    assert Path(f"/proc/{process.pid}/comm").read_text() == "sleep\n"
    process.terminate()
    assert process.wait() == -15


run(main)
