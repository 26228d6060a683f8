"""pidfds of processes that were waited for still tell how each of them ended (PIDFD_GET_INFO, Linux 6.15)."""

import fcntl
import os
import signal
import struct

from target_api import Skip, checkpoint, child, exit_code, forever, run

PIDFD_GET_INFO = 0xC040FF0B
PIDFD_INFO_EXIT = 8


def status(fd):
    info = bytearray(struct.pack("<Q56x", PIDFD_INFO_EXIT))
    fcntl.ioctl(fd, PIDFD_GET_INFO, info)
    return struct.unpack_from("<i", info, 60)[0] if info[0] & PIDFD_INFO_EXIT else None


def main():
    ends = {child(lambda: 0): 0, child(lambda: 37): 37 << 8, child(forever): signal.SIGTERM, child(forever): 64}
    fds = {os.pidfd_open(pid): end for pid, end in ends.items()}
    for pid, end in ends.items():
        if end & 0x7F:
            os.kill(pid, end)
        exit_code(pid)
    try:
        assert {fd: status(fd) for fd in fds} == fds
    except OSError:
        raise Skip("no exit status in pidfds") from None
    if checkpoint():
        os.dup2(max(fds), min(fds))
    found = {fd: status(fd) for fd in fds}
    assert found == fds, (found, fds)


run(main)
