"""Files deleted under the name they were opened by, with another name in the same directory or far away."""

import os

from target_api import DIR, checkpoint, run


def main():
    near, far = DIR / "near", DIR.parent / "far" / "away"
    near.mkdir()
    far.mkdir(parents=True)
    pairs = [(near / "one", near / "other"), (near / "two", far / "two"), (near / "pipe", far / "pipe")]
    for name, other in pairs:
        os.mkfifo(name) if name.name == "pipe" else name.write_text("body")
        os.link(name, other)
    fds = [os.open(name, os.O_RDWR) for name, _ in pairs]
    read_only = os.open(near / "two", os.O_RDONLY)
    os.write(fds[2], b"in the fifo")
    for name, _ in pairs:
        name.unlink()
    if checkpoint():
        os.pwrite(fds[1], b"??", 0)
    for fd, (name, other) in zip(fds, pairs, strict=True):
        assert os.fstat(fd).st_ino == other.stat().st_ino and os.fstat(fd).st_nlink == 1 and not name.exists()
    assert os.pread(read_only, 9, 0) == b"body"
    os.pwrite(fds[0], b"1", 0)
    os.pwrite(fds[1], b"2", 0)
    assert pairs[0][1].read_text() == "1ody" and pairs[1][1].read_text() == "2ody" and os.read(read_only, 9) == b"2ody"
    again = os.open(pairs[2][1], os.O_RDWR | os.O_NONBLOCK)
    assert os.read(again, 99) == b"in the fifo"


run(main)
