"""A System V segment stays attached where it was, with its bytes, locked, in parent and child."""

import ctypes
from pathlib import Path

from target_api import PAGE, Skip, call, checkpoint, child, eventually, exit_code, libc, peek, poke, run


def main():
    try:
        segment = call("shmget", 0, 4 * PAGE, 0o1600)
    except OSError as error:
        raise Skip(f"no System V shared memory: {error}") from error
    libc.shmat.restype = ctypes.c_long
    area = libc.shmat(segment, None, 0)
    call("shmctl", segment, 0, 0)  # IPC_RMID: it goes with the last user
    call("shmctl", segment, 11, 0)  # SHM_LOCK
    poke(area + PAGE, b"segment")

    def mode():
        lines = [line.split() for line in Path("/proc/sysvipc/shm").read_text().splitlines()]
        return [line[2] for line in lines if line[1] == str(segment)]

    assert mode() == ["3600"]  # SHM_LOCKED, SHM_DEST
    pid = child(lambda: eventually(lambda: peek(area, 1) == b"1") or poke(area, b"2"))
    if checkpoint():
        poke(area + PAGE, b"tampered")
    assert mode() == ["3600"], mode()
    assert peek(area + PAGE, 7) == b"segment"
    poke(area, b"1")
    assert exit_code(pid) == 0
    assert peek(area, 1) == b"2"


run(main)
