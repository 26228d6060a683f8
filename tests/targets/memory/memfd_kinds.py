"""memfds: without seals allowed, with NOEXEC_SEAL, grown past what is mapped, holes, reopened, owner, append, times."""

import fcntl
import mmap
import os

from target_api import PAGE, checkpoint, child, exit_code, libc, pattern, run, wait_for_go

F_ADD_SEALS, F_GET_SEALS = 1033, 1034


def main():
    plain = os.memfd_create("plain", 0)
    sealing = os.memfd_create("sealing", os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
    noexec = libc.memfd_create(b"no exec", 8)
    executable = libc.memfd_create(b"exec", 16)
    if noexec < 0:  # before Linux 6.3
        noexec, executable = (os.memfd_create(name) for name in ("no exec", "exec"))
    fds = [plain, sealing, noexec, executable]
    for n, fd in enumerate(fds):
        os.pwrite(fd, pattern(n), 100 * PAGE)
    area = mmap.mmap(plain, 2 * PAGE)
    private = mmap.mmap(sealing, 101 * PAGE, mmap.MAP_PRIVATE)
    private[0:4] = b"mine"
    private[100 * PAGE : 100 * PAGE + 4] = b"copy"
    area[0:6] = b"shared"
    reading = os.open(f"/proc/self/fd/{sealing}", os.O_RDONLY)
    os.lseek(reading, 100 * PAGE, 0)
    appending = os.open(f"/proc/self/fd/{plain}", os.O_RDWR | os.O_APPEND)
    os.fchmod(plain, 0o640)
    os.fchown(plain, 1234, 2345)
    fcntl.fcntl(sealing, F_ADD_SEALS, 2 | 4)  # F_SEAL_SHRINK, F_SEAL_GROW
    try:
        os.setxattr(plain, "user.ckpt", b"a value")
        named = b"a value"
    except OSError:  # before Linux 6.6
        named = b""
    times = (1_000_000_000_000_000_001, 1_100_000_000_000_000_002)
    os.utime(executable, ns=times)
    seals = [fcntl.fcntl(fd, F_GET_SEALS) for fd in fds]
    stats = [(os.fstat(fd).st_mode, os.fstat(fd).st_uid, os.fstat(fd).st_gid, os.fstat(fd).st_size) for fd in fds]

    def other():
        wait_for_go()
        return area[0:6] != b"shared" or os.pread(plain, 6, 0) != b"shared"

    pid = child(other)
    if checkpoint():
        os.fchmod(plain, 0o600)
    now = [(os.fstat(fd).st_mode, os.fstat(fd).st_uid, os.fstat(fd).st_gid, os.fstat(fd).st_size) for fd in fds]
    assert now == stats, (stats, now)
    assert (os.fstat(executable).st_atime_ns, os.fstat(executable).st_mtime_ns) == times
    assert not named or os.getxattr(plain, "user.ckpt") == named
    assert [fcntl.fcntl(fd, F_GET_SEALS) for fd in fds] == seals
    assert exit_code(pid) == 0
    for n, fd in enumerate(fds):
        assert os.pread(fd, PAGE, 100 * PAGE) == pattern(n)
        assert os.fstat(fd).st_blocks < 64, "the hole is filled"
    assert private[0:4] == b"mine" and private[100 * PAGE :][:4] == b"copy"
    assert os.read(reading, 9) == pattern(1)[:9]
    os.write(appending, b"end")
    assert os.pread(plain, 9, 101 * PAGE) == b"end"
    try:
        os.ftruncate(sealing, 5)
        raise AssertionError("the seal is gone")
    except PermissionError:
        pass


run(main)
