"""POSIX semaphores: named ones, one whose name is gone, and one in shared memory that a child waits for."""

import ctypes
import mmap
import os

from target_api import asleep, checkpoint, child, exit_code, libc, run


def main():
    libc.sem_open.restype = ctypes.c_void_p
    names = [f"/ckpt-target-{os.getpid()}-{n}".encode() for n in range(2)]
    sems = [libc.sem_open(name, os.O_CREAT | os.O_EXCL, 0o600, 3 + n) for n, name in enumerate(names)]
    assert all(sems)
    libc.sem_unlink(names[1])
    area = mmap.mmap(-1, 4096)
    shared = ctypes.addressof(ctypes.c_char.from_buffer(area))
    libc.sem_init(ctypes.c_void_p(shared), 1, 0)
    pid = child(lambda: libc.sem_wait(ctypes.c_void_p(shared)) + 5)
    asleep(pid)
    value = ctypes.c_int()
    try:
        if checkpoint():
            libc.sem_post(ctypes.c_void_p(sems[1]))
        for n, sem in enumerate(sems):
            libc.sem_getvalue(ctypes.c_void_p(sem), ctypes.byref(value))
            assert value.value == 3 + n
        again = libc.sem_open(names[0], 0)
        libc.sem_post(ctypes.c_void_p(again))
        libc.sem_getvalue(ctypes.c_void_p(sems[0]), ctypes.byref(value))
        assert value.value == 4
        assert os.waitpid(pid, os.WNOHANG)[0] == 0
        libc.sem_post(ctypes.c_void_p(shared))
        assert exit_code(pid) == 5
    finally:
        libc.sem_unlink(names[0])


run(main)
