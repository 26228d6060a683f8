"""Twenty children counting in shared memory."""

import mmap
import os
import struct
import time

from target_api import DIR, PAGE, checkpoint, child, eventually, exit_code, run


def main():
    area = mmap.mmap(-1, PAGE)

    def count(n):
        local = 0
        while not (DIR / "end").exists():
            local += 1
            struct.pack_into("<Q", area, n * 8, local)
            time.sleep(0.02)
        return struct.unpack_from("<Q", area, n * 8)[0] == local

    def view():
        return struct.unpack_from("<20Q", area)

    pids = [child(count, n) for n in range(20)]
    if checkpoint():
        os.kill(pids[4], 9)
        os.kill(pids[4], 9)
    now = view()
    if os.waitid(os.P_PID, pids[4], os.WEXITED | os.WNOHANG | os.WNOWAIT):
        raise AssertionError("a child is dead")
    eventually(lambda: all(a > b for a, b in zip(view(), now, strict=True)), "all go on")
    (DIR / "end").touch()
    assert all(exit_code(pid) == 1 for pid in pids)


run(main)
