"""Capabilities: permitted, effective, inheritable, bounding and ambient sets."""

import ctypes
import os

from target_api import Skip, checkpoint, libc, prctl, run, status

NAMES = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")


def main():
    if os.getuid():
        raise Skip("needs root")
    prctl(24, 22)  # PR_CAPBSET_DROP, CAP_SYS_BOOT
    prctl(24, 25)
    permitted = 1 << 0 | 1 << 6 | 1 << 7 | 1 << 10 | 1 << 21
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    data = (ctypes.c_uint32 * 6)(permitted, permitted, 1 << 10, 0, 0, 0)
    assert libc.capset(header, data) == 0
    prctl(47, 2, 10)  # PR_CAP_AMBIENT_RAISE
    before = [status(name) for name in NAMES]
    if checkpoint():
        prctl(47, 4)
    assert [status(name) for name in NAMES] == before
    assert int(status("CapEff"), 16) == permitted and int(status("CapAmb"), 16) == 1 << 10


run(main)
