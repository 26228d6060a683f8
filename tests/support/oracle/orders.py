"""Orders to the processes of the oracle's target, through a page of theirs (target.c), and their answers."""

from __future__ import annotations

import os
import signal
import struct
import time

from tests.support.commands import WAIT
from tests.support.oracle import truth

CONTROL = 0x0E0000000000
_KINDS = (
    "CALL", "FILL", "WRITE_BYTES", "READ_BYTES", "FORK_WRITE", "CHILD", "EXEC", "VFORK", "SPIN", "REST", "DEEPEN",
    "REAP", "FILE_AT", "LEAVE", "WRITE_FILE", "SCATTER", "ADVISE_EACH",
)  # fmt: skip
NUMBERS = {
    "mmap": 9, "mprotect": 10, "munmap": 11, "brk": 12, "mremap": 25, "madvise": 28, "ftruncate": 77, "close": 3,
    "mlock": 149, "munlock": 150, "fallocate": 285, "dup3": 292, "memfd_create": 319, "mlock2": 325, "mlockall": 151,
    "munlockall": 152, "openat": 257, "shmget": 29, "shmat": 30, "shmctl": 31, "shmdt": 67, "fcntl": 72,
    "remap_file_pages": 216, "mseal": 462, "pread64": 17,
}  # fmt: skip


class Orders:
    """Who was told what, so far."""

    def __init__(self) -> None:
        self.numbers: dict[int, int] = {}  # of the last order, by pid

    def _words(self, pid: int, first: int, count: int) -> tuple[int, ...]:
        return truth.read_words(pid, CONTROL + 8 * first, count)

    def arrived(self, pid: int) -> None:
        """Wait until the process takes orders."""
        end = time.monotonic() + WAIT
        while time.monotonic() < end:
            try:
                if self._words(pid, 10, 1)[0] == -1:
                    self.numbers[pid] = 0
                    return
            except OSError:
                pass
            time.sleep(0.001)
        raise RuntimeError("the target did not come up")

    def order(self, pid: int, kind: str, *args: int, text: str = "", wait: bool = True) -> int:
        """One order to a process; its answer (negative: an errno)."""
        number = self.numbers[pid] = self.numbers.get(pid, 0) + 1
        padded = [*args, *[0] * (8 - len(args))]
        body = struct.pack("<9q", _KINDS.index(kind), *(a if a < 1 << 63 else a - (1 << 64) for a in padded))
        if text:
            truth.write_from_outside(pid, CONTROL + 1024, os.fsencode(text) + b"\0", through_mem=False)
        truth.write_from_outside(pid, CONTROL + 8, body, through_mem=False)
        truth.write_from_outside(pid, CONTROL, struct.pack("<q", number), through_mem=False)
        os.kill(pid, signal.SIGUSR1)
        if not wait:
            return 0
        end = time.monotonic() + WAIT
        spins = 0
        while True:
            done, result = self._words(pid, 10, 2)
            if done == number:
                return result
            spins += 1
            if spins > 20:
                time.sleep(0.0001)
            if time.monotonic() > end:
                raise RuntimeError(f"process {pid} does not answer order {kind} {args}")

    def call(self, pid: int, name: str, *args: int, text: str = "") -> int:
        """One system call there; its result."""
        return self.order(pid, "CALL", NUMBERS[name], *args, text=text)
