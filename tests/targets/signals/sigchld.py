"""SIGCHLD with SA_NOCLDSTOP and SA_RESTART in the handler's flags, asked of the kernel."""

import ctypes
import os
import signal

from target_api import checkpoint, child, eventually, forever, libc, run


class Action(ctypes.Structure):
    _fields_ = [("handler", ctypes.c_ulong), ("flags", ctypes.c_ulong), ("restorer", ctypes.c_ulong)]
    _fields_ += [("mask", ctypes.c_ulong)]


def action(number, new=None):
    old = Action()
    result = libc.syscall(13, int(number), ctypes.byref(new) if new else None, ctypes.byref(old), ctypes.c_long(8))
    assert result == 0
    return old.handler, old.flags, old.restorer, old.mask


def main():
    seen = []
    signal.signal(signal.SIGCHLD, lambda *_: seen.append(1))
    now = Action(*action(signal.SIGCHLD))
    now.flags |= 1 | 0x10000000
    now.mask = 1 << (signal.SIGUSR2 - 1) | 1 << 40
    action(signal.SIGCHLD, now)
    before = [action(number) for number in range(1, 65)]
    pid = child(forever)
    if checkpoint():
        action(signal.SIGUSR2, now)
    assert [action(number) for number in range(1, 65)] == before
    os.kill(pid, signal.SIGSTOP)
    os.waitpid(pid, os.WUNTRACED)
    assert not seen
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: seen == [1], "SIGCHLD")


run(main)
