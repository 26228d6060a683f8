"""What a deleted file has beside its contents: mode, owner, times, xattrs, holes, a mapping; and a directory."""

import mmap
import os

from target_api import DIR, PAGE, checkpoint, pattern, run


def extended(fd):
    try:
        return {name: os.getxattr(fd, name) for name in os.listxattr(fd) if name.startswith("user.")}
    except OSError:
        return {}


def main():
    path = DIR / "gone"
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    for at in (0, 1 << 20, 5 << 30):
        os.pwrite(fd, pattern(at), at)
    os.ftruncate(fd, 6 << 30)
    os.fchown(fd, 4321, 8765)
    os.fchmod(fd, 0o4751)
    try:
        os.setxattr(path, "user.ckpt", b"a value")
    except OSError:
        pass
    os.utime(path, ns=(1_000_000_000_000_000_001, 1_100_000_000_000_000_002))
    area = mmap.mmap(fd, 2 * PAGE, offset=1 << 20)
    os.unlink(path)
    (DIR / "folder").mkdir()
    try:
        os.setxattr(DIR / "folder", "user.ckpt", b"another")
    except OSError:
        pass
    folder = os.open(DIR / "folder", os.O_RDONLY)
    (DIR / "folder").rmdir()
    facts = ("st_mode", "st_uid", "st_gid", "st_size", "st_nlink", "st_atime_ns", "st_mtime_ns")
    before, names = {name: getattr(os.fstat(fd), name) for name in facts}, (extended(fd), extended(folder))
    if checkpoint():
        os.fchmod(fd, 0o600)
    after = {name: getattr(os.fstat(fd), name) for name in facts}
    assert before == after, (before, after)
    assert names == (extended(fd), extended(folder)), (names, extended(fd), extended(folder))
    assert os.fstat(fd).st_blocks * 512 < 1 << 20, "the holes are filled"
    for at in (0, 1 << 20, 5 << 30):
        assert os.pread(fd, PAGE, at) == pattern(at)
    assert area[:PAGE] == pattern(1 << 20)
    area[0:3] = b"new"
    assert os.pread(fd, 3, 1 << 20) == b"new"


run(main)
