"""Files in /proc of a process that has ended, of one that is a zombie, and of a thread that is gone."""

import os
import threading

from target_api import checkpoint, child, eventually, exit_code, forever, run, state


def gone(call):
    try:
        call()
    except (ProcessLookupError, FileNotFoundError):
        return True
    return False


def main():
    ended, zombie = child(forever), child(lambda: 7)
    eventually(lambda: state(zombie) == "Z", "a zombie")
    folder, file = os.open(f"/proc/{ended}", os.O_RDONLY), os.open(f"/proc/{ended}/status", os.O_RDONLY)
    of_zombie = os.open(f"/proc/{zombie}/status", os.O_RDONLY)
    os.kill(ended, 9)
    exit_code(ended)
    opened = []
    thread = threading.Thread(
        target=lambda: opened.append(os.open(f"/proc/self/task/{threading.get_native_id()}/stat", 0))
    )
    thread.start()
    thread.join()
    eventually(lambda: gone(lambda: os.pread(opened[0], 9, 0)), "the thread is gone")
    if checkpoint():
        os.waitpid(zombie, 0)
    assert gone(lambda: os.read(file, 99)) and gone(lambda: os.stat("status", dir_fd=folder))
    assert gone(lambda: os.read(opened[0], 99))
    assert f"/proc/{ended}" in os.readlink(f"/proc/self/fd/{file}")
    assert b"zombie" in os.pread(of_zombie, 4096, 0)
    assert exit_code(zombie) == 7 and gone(lambda: os.pread(of_zombie, 99, 0))


run(main)
