"""/proc/self opened in several ways: mem for writing, ns, task, a child's cwd; the files stay the task's own."""

import ctypes
import os

from target_api import checkpoint, child, forever, run


def main():
    pid = child(forever)
    cell = ctypes.create_string_buffer(b"before")
    mem = os.open("/proc/self/mem", os.O_RDWR)
    net = os.open("/proc/self/ns/net", os.O_RDONLY)
    other = os.open(f"/proc/{pid}/ns/uts", os.O_RDONLY)
    task = os.open(f"/proc/self/task/{os.getpid()}", os.O_RDONLY | os.O_DIRECTORY)
    link = os.open(f"/proc/{pid}/cwd", os.O_PATH | os.O_NOFOLLOW)
    score = os.open("/proc/self/oom_score_adj", os.O_RDWR)
    if checkpoint():
        ctypes.memmove(cell, b"BEFORE", 6)
    assert os.pread(mem, 6, ctypes.addressof(cell)) == b"before"
    os.pwrite(mem, b"after!", ctypes.addressof(cell))
    assert cell.value == b"after!"
    assert os.fstat(net).st_ino == os.stat("/proc/self/ns/net").st_ino
    assert os.fstat(other).st_ino == os.stat("/proc/self/ns/uts").st_ino
    with open(os.open("comm", os.O_RDONLY, dir_fd=task)) as stream, open("/proc/self/comm") as own:
        assert stream.read() == own.read()
    assert os.readlink("", dir_fd=link) == os.getcwd()
    assert os.write(score, b"0") == 1
    os.kill(pid, 9)


run(main)
