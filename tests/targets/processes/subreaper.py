"""The subreaper flag: orphans made afterwards come to this task."""

import ctypes
import os

from target_api import checkpoint, child, exit_code, libc, prctl, run


def main():
    prctl(36, 1)
    if checkpoint():
        prctl(36, 0)
    flag = ctypes.c_int()
    libc.prctl(37, ctypes.byref(flag), 0, 0, 0)
    assert flag.value == 1
    assert exit_code(child(lambda: child(lambda: 77) and 0)) == 0
    assert os.waitstatus_to_exitcode(os.wait()[1]) == 77


run(main)
