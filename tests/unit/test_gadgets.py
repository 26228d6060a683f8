"""Code to borrow, in programs that have just started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from ckpt.errors import NothingToBorrow
from ckpt.kernel import tiny
from ckpt.kernel.memory import Memory
from ckpt.trace import gadgets, padding

_FULL = 4096 - 120 - 9 - len(padding.CODE) + 1  # behind the headers and the code, up to where no more code has room
_PAUSE = bytes.fromhex("b8220000000f05ebf7")  # 1: mov eax, SYS_pause; syscall; jmp 1b


def test_a_program_that_is_lent_code() -> None:
    pid = tiny.start("ckpt-bare", _PAUSE)
    try:
        assert gadgets.appear(pid, 60), "posix_spawn returns before the program is mapped"
        found = gadgets.find(pid)
        with Memory(pid) as memory:
            room = memory.read(found.lent, len(padding.CODE))
            assert memory.read(found.lent - len(_PAUSE), len(_PAUSE)) == _PAUSE, "it begins behind the program"
        assert room == bytes(len(padding.CODE)), "looking for it does not write it"
        assert (found.restorer, found.syscall_ret) == (found.lent, found.lent + padding.CODE.index(b"\x0f\x05"))
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_a_program_without_code_or_room() -> None:
    pid = tiny.start("ckpt-full", _PAUSE + bytes(_FULL))
    try:
        with pytest.raises(NothingToBorrow) as found:
            gadgets.find(pid)
        assert found.value.pid == pid
        assert not gadgets.appear(pid, 0.1)
        threading.Timer(0.2, os.kill, (pid, signal.SIGKILL)).start()
        start = time.monotonic()
        assert gadgets.appear(pid, 20), "nothing is waited for in one that has ended"
        assert time.monotonic() - start < 10
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_a_program_that_starts() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as started:
        assert gadgets.appear(started.pid, 20)
        gadgets.find(started.pid)
        started.kill()
