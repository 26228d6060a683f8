"""Threads in bare futex waits, one with a bitset, are woken by a bare futex wake."""

import ctypes
import threading

from target_api import checkpoint, eventually, libc, run


def main():
    word, results = ctypes.c_uint32(7), []

    def wait(operation):
        results.append(libc.syscall(202, ctypes.byref(word), operation, 7, None, None, 0xFFFFFFFF))

    threads = [threading.Thread(target=wait, args=(op,)) for op in (0, 128, 9, 128 | 9)]
    for thread in threads:
        thread.start()
    if checkpoint():
        results.append("tampered")
    assert not results, f"woken early: {results}"

    def woken():
        libc.syscall(202, ctypes.byref(word), 1, 10)
        libc.syscall(202, ctypes.byref(word), 1 | 128, 10)
        return len(results) == 4

    eventually(woken, "all woken")
    assert results == [0] * 4, results


run(main)
