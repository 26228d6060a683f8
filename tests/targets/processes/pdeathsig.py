"""A child that is to be signalled when its parent ends."""

import ctypes
import os
import signal

from target_api import checkpoint, child, eventually, forever, libc, prctl, run, status


def main():
    prctl(36, 1)
    reader, writer = os.pipe()

    def middle():
        def lower():
            prctl(1, signal.SIGTERM)
            os.write(writer, b"%d" % os.getpid())
            forever()

        child(lower)
        forever()

    prctl(1, signal.SIGHUP)
    pid = child(middle)
    lower = int(os.read(reader, 20))
    if checkpoint():
        prctl(1, signal.SIGUSR1)
    mine = ctypes.c_int()
    libc.prctl(2, ctypes.byref(mine), 0, 0, 0)
    assert mine.value == signal.SIGHUP
    assert int(status("PPid", lower)) == pid
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    eventually(lambda: os.waitpid(lower, os.WNOHANG) == (lower, signal.SIGTERM), "the child got SIGTERM")


run(main)
