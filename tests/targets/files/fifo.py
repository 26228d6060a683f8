"""A FIFO with data in it; one open at one end only."""

import os

from target_api import DIR, checkpoint, run


def main():
    for name in ("fifo", "lonely"):
        os.mkfifo(DIR / name)
    reader = os.open(DIR / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(DIR / "fifo", os.O_WRONLY)
    lonely = os.open(DIR / "lonely", os.O_RDWR)
    os.write(writer, b"waiting in the fifo")
    os.write(lonely, b"both ways")
    if checkpoint():
        os.read(reader, 1)
    assert os.read(reader, 100) == b"waiting in the fifo"
    assert os.read(lonely, 100) == b"both ways"
    other = os.open(DIR / "fifo", os.O_WRONLY | os.O_NONBLOCK)
    os.write(other, b"by name")
    assert os.read(reader, 100) == b"by name"


run(main)
