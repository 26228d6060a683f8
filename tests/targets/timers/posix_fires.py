"""A POSIX timer with an interval whose signal is queued, with its overruns."""

import ctypes
import os
import signal

from target_api import Skip, checkpoint, eventually, libc, run


class Event(ctypes.Structure):
    _fields_ = [("value", ctypes.c_long), ("signo", ctypes.c_int), ("notify", ctypes.c_int)]
    _fields_ += [("tid", ctypes.c_int), ("pad", ctypes.c_int * 11)]


def main():
    seen, timer = [], ctypes.c_int(-1)
    number = signal.SIGRTMIN + 6
    signal.signal(number, lambda *_: seen.append(1))
    event = Event(77, number, 4, os.getpid())  # SIGEV_THREAD_ID
    if libc.syscall(222, 1, ctypes.byref(event), ctypes.byref(timer)):
        raise Skip("no POSIX timers")
    libc.syscall(223, timer.value, 0, (ctypes.c_long * 4)(0, 30_000_000, 0, 30_000_000), None)
    if checkpoint():
        libc.syscall(226, timer.value)
        eventually(lambda: False, "tampered", 0.1)
    count = len(seen)
    eventually(lambda: len(seen) >= count + 3, "ticks")
    libc.syscall(223, timer.value, 0, (ctypes.c_long * 4)(), None)


run(main)
