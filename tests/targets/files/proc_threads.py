"""Files in /proc of a thread that is not the first, and a pidfd of it."""

import os
import threading

from target_api import DIR, checkpoint, run


def main():
    ids = []
    event = threading.Event()

    def wait():
        ids.append(threading.get_native_id())
        event.wait()

    thread = threading.Thread(target=wait)
    thread.start()
    while not ids:
        pass
    tid = ids[0]
    comm = os.open(f"/proc/self/task/{tid}/comm", os.O_RDWR)
    folder = os.open(f"/proc/{os.getpid()}/task/{tid}", os.O_RDONLY | os.O_DIRECTORY)
    other = os.open(f"/proc/{tid}/status", os.O_RDONLY)
    try:
        pidfd = os.pidfd_open(tid, os.O_EXCL)  # PIDFD_THREAD, Linux 6.9
    except OSError:
        pidfd = -1
    if checkpoint():
        os.dup2(comm, folder)
    with open(f"/proc/self/task/{tid}/comm", "rb") as stream:
        assert os.pread(comm, 99, 0) == stream.read()
    assert "comm" in os.listdir(folder)
    assert f"Pid:\t{tid}\n".encode() in os.pread(other, 4096, 0)
    if pidfd >= 0:
        with open(f"/proc/self/fdinfo/{pidfd}") as stream:
            assert f"Pid:\t{tid}\n" in stream.read()
    assert DIR.exists()
    event.set()
    thread.join()


run(main)
