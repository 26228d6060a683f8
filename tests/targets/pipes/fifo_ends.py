"""FIFOs open at several ends in several tasks, with data, at either end alone, non-blocking, deleted with data."""

import fcntl
import os

from target_api import DIR, checkpoint, child, exit_code, run, wait_for_go


def main():
    for name in ("shared", "gone", "idle"):
        os.mkfifo(DIR / name, 0o640)
    reader = os.open(DIR / "shared", os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(DIR / "shared", os.O_WRONLY)
    fcntl.fcntl(writer, 1031, 1 << 17)

    def other():
        os.close(reader)
        wait_for_go()
        return os.write(writer, b" and child") != 10

    pid = child(other)
    os.write(writer, b"parent")
    gone = os.open(DIR / "gone", os.O_RDONLY | os.O_NONBLOCK), os.open(DIR / "gone", os.O_WRONLY)
    os.write(gone[1], b"deleted")
    os.unlink(DIR / "gone")
    idle = os.open(DIR / "idle", os.O_RDONLY | os.O_NONBLOCK)
    if checkpoint():
        os.read(gone[0], 1)
    assert exit_code(pid) == 0
    assert os.read(reader, 100) == b"parent and child"
    assert fcntl.fcntl(reader, 1032) == 1 << 17
    assert os.read(idle, 1) == b"", "no writer"
    assert os.read(gone[0], 100) == b"deleted" and not (DIR / "gone").exists()
    os.close(gone[1])
    assert os.read(gone[0], 1) == b""
    os.close(writer)
    assert os.read(reader, 1) == b""


run(main)
