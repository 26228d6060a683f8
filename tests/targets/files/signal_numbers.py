"""The descriptor number in siginfo (F_SETSIG with O_ASYNC, of a lease), and by whose ids signals are permitted."""

import ctypes
import fcntl
import os
import signal
import struct

from target_api import DIR, checkpoint, child, exit_code, libc, run

F_SETSIG, F_GETOWNER_UIDS = 10, 17


def si_fd(number):
    info = ctypes.create_string_buffer(128)
    mask, limit = struct.pack("<Q", 1 << (number - 1)), struct.pack("<qq", 60, 0)
    assert libc.syscall(128, mask, info, limit, 8) == number
    return struct.unpack_from("<iiiiqi", info.raw)[5]


def main():
    of_pipe, of_lease = signal.SIGRTMIN + 3, signal.SIGRTMIN + 4
    signal.pthread_sigmask(signal.SIG_BLOCK, {of_pipe, of_lease})
    by_others = os.pipe()[0]
    os.setresuid(17, 18, 0)
    fcntl.fcntl(by_others, fcntl.F_SETOWN, os.getpid())
    os.setresuid(0, 0, 0)
    low, writer = os.pipe()
    fcntl.fcntl(low, fcntl.F_SETOWN, os.getpid())
    reader = fcntl.fcntl(low, fcntl.F_DUPFD, 77)
    os.close(low)
    fcntl.fcntl(reader, F_SETSIG, of_pipe)
    fcntl.fcntl(reader, fcntl.F_SETFL, os.O_ASYNC)
    (DIR / "leased").write_text("x")
    low = os.open(DIR / "leased", os.O_RDWR)
    leased = fcntl.fcntl(low, fcntl.F_DUPFD, 91)
    os.close(low)
    fcntl.fcntl(leased, F_SETSIG, of_lease)
    fcntl.fcntl(leased, fcntl.F_SETLEASE, fcntl.F_WRLCK)
    if checkpoint():
        fcntl.fcntl(by_others, fcntl.F_SETOWN, 0)
    assert struct.unpack("<II", fcntl.fcntl(by_others, F_GETOWNER_UIDS, bytes(8))) == (17, 18)
    os.write(writer, b"x")
    assert si_fd(of_pipe) == reader
    assert fcntl.fcntl(leased, fcntl.F_GETOWN) == os.getpid()
    pid = child(lambda: os.close(os.open(DIR / "leased", os.O_WRONLY)))
    assert si_fd(of_lease) == leased
    fcntl.fcntl(leased, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    assert exit_code(pid) == 0


run(main)
