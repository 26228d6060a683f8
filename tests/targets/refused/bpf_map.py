"""A BPF map is outside what a checkpoint holds: refused by name, and the task goes on."""

import ctypes
import os

from target_api import Skip, checkpoint, libc, run


def main():
    fd = libc.syscall(321, 0, (ctypes.c_uint32 * 16)(2, 4, 8, 1), 64)
    if fd < 0:
        raise Skip("no BPF maps")
    checkpoint()
    assert "bpf" in os.readlink(f"/proc/self/fd/{fd}")


run(main)
