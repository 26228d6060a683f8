"""A target that runs the lines of Python it is given, one at a time, and sleeps in read(2) in between."""

from __future__ import annotations

import ast
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType

_SOURCE = """
import ctypes, fcntl, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
P, H = 4096, 2 << 20
def call(nr, *args):
    result = libc.syscall(*[ctypes.c_long(arg) for arg in (nr, *args)])
    if result == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
def mmap(size, prot=3, flags=0x22, fd=-1, at=0):
    return call(9, at, size, prot, flags, fd, 0)
def madvise(at, size, advice):
    return call(28, at, size, advice)
def poke(at, data):
    ctypes.memmove(at, data, len(data))
def peek(at, size):
    return ctypes.string_at(at, size)
for line in sys.stdin:
    try:
        if line.startswith("="):
            answer = eval(line[1:])
        else:
            answer = exec(line.replace("\\x01", "\\n"))
        print("+" + repr(answer), flush=True)
    except BaseException as error:
        print("-" + repr(error), flush=True)
"""


class Refused(Exception):
    """What the target's line failed with."""


class Obedient:
    """The target; a context manager that ends it."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-S", "-E", "-c", _SOURCE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            # The kernel writes to an rseq area whenever a thread changes its CPU.
            env={**os.environ, "GLIBC_TUNABLES": "glibc.pthread.rseq=0"},
            text=True,
            start_new_session=True,
        )
        self.pid = self.process.pid
        self.do("pass")

    def __enter__(self) -> Obedient:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        os.kill(self.pid, signal.SIGKILL)
        self.process.communicate()

    def do(self, code: str) -> str:
        """Run statements; they are done, and the target sleeps, on return."""
        return self._answer(code.replace("\n", "\x01"))

    def ask(self, expression: str) -> object:
        """The value of an expression."""
        return ast.literal_eval(self._answer("=" + expression))

    def _answer(self, line: str) -> str:
        assert self.process.stdin is not None and self.process.stdout is not None
        print(line, file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline().rstrip("\n")
        if not answer.startswith("+"):
            raise Refused(answer[1:])
        end = time.monotonic() + 60
        while not Path(f"/proc/{self.pid}/syscall").read_text().startswith("0 "):  # read(2)
            assert time.monotonic() < end, "the target does not come back to read(2)"
            time.sleep(0.001)
        return answer[1:]
