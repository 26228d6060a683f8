"""A thread that a freeze finds in what looks like frames of a ckpt that has died: led home, or left where it is.

root: not needed; guest: off. That one is led home shows test_kill.
"""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

import ckpt
from ckpt.errors import KernelError, RemoteCallError
from ckpt.kernel import procfs, uapi
from ckpt.kernel import ptrace_requests as ptrace
from ckpt.trace import freezer, homeward, sigframe, stepper

PROGRAM = """
import ctypes, mmap, sys
code = mmap.mmap(-1, 4096, prot=7)
# rdi: fd, rsi: the stack on which it waits in read(2)
code.write(bytes.fromhex("4889e0 4889f4 50 6a00 4889e6 ba01000000 31c0 0f05 5a 5a 4889d4 c3"))
room = ctypes.create_string_buffer(65536)
top = (ctypes.addressof(room) + 32768) & -64
ctypes.memmove(top, bytes.fromhex(sys.argv[1]), len(sys.argv[1]) // 2)
wait = ctypes.CFUNCTYPE(ctypes.c_long, ctypes.c_long, ctypes.c_long)(ctypes.addressof(ctypes.c_char.from_buffer(code)))
every = ctypes.c_uint64((1 << 64) - 1)
assert ctypes.CDLL(None).syscall(14, 0, ctypes.byref(every), None, 8) == 0  # glibc keeps two signals for itself
print("ready", flush=True)
print(wait(0, top), flush=True)
"""


def test_a_wait_beside_the_rest_of_a_frame(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With every signal blocked, for hours: the freeze does not wait for its end."""
    monkeypatch.setattr(homeward, "_LONG", 0.2)
    led: list[int] = []
    look = homeward._on_the_way
    monkeypatch.setattr(homeward, "_on_the_way", lambda tid: look(tid) and not led.append(tid))
    command = [sys.executable, "-S", "-c", PROGRAM, sigframe.MARK.hex()]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, start_new_session=True, **pipes) as target:
        try:
            assert target.stdin is not None and target.stdout is not None
            assert target.stdout.readline() == b"ready\n"
            while Path(f"/proc/{target.pid}/syscall").read_text().split()[0] != "0":
                os.sched_yield()
            ckpt.pre_dump(target.pid, tmp_path / "chain")
            ckpt.pre_dump(target.pid, tmp_path / "chain")
            assert set(led) == {target.pid}
            target.stdin.write(b"x")
            target.stdin.flush()
            assert target.stdout.readline() == b"1\n"
        finally:
            target.kill()


@contextmanager
def _waiting() -> Iterator[tuple[subprocess.Popen[bytes], IO[bytes], IO[bytes]]]:
    """cat in read(2), its input and its output."""
    with subprocess.Popen(["cat"], start_new_session=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as target:
        try:
            assert target.stdin is not None and target.stdout is not None
            while Path(f"/proc/{target.pid}/syscall").read_text().split()[0] != "0":
                os.sched_yield()
            yield target, target.stdin, target.stdout
        finally:
            target.kill()


def test_a_call_that_does_not_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The freeze ends with an error; the next one finds the thread under way, and it goes on when the call ends."""
    monkeypatch.setattr(stepper, "_LONGEST", 0.3)
    with _waiting() as (target, to, back):
        with pytest.raises(RemoteCallError), freezer.freeze(target.pid) as tree:
            remote = tree.tasks[target.pid].remote()
            remote.syscall(uapi.SYS_read, 0, remote.put(bytes(8)), 1)
        assert procfs.status(target.pid)["SigBlk"].strip("0") != ""
        monkeypatch.undo()
        ending = threading.Timer(0.5, os.write, (to.fileno(), b"x"))
        ending.start()
        ckpt.pre_dump(target.pid, tmp_path / "chain")
        ending.join()
        assert procfs.status(target.pid)["SigBlk"].strip("0") == ""
        to.write(b"line\n")
        to.flush()
        assert back.readline() == b"line\n"


def test_a_call_that_is_given_up_stops_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stop behind such a call is no SIGTRAP of the task's, with which it would end."""
    monkeypatch.setattr(stepper, "_LONGEST", 0.1)
    late = KernelError("it has not stopped yet", errno=errno.ESRCH)
    done = []

    def once(request: Callable[[int, int], None]) -> Callable[[int, int], None]:
        def first_too_early(tid: int, number: int = 0) -> None:
            if request not in done:
                done.append(request)
                raise late
            request(tid, number)

        return first_too_early

    with _waiting() as (target, to, back):
        with pytest.raises(RemoteCallError), freezer.freeze(target.pid) as tree:
            remote = tree.tasks[target.pid].remote()
            try:
                remote.syscall(uapi.SYS_read, 0, remote.put(bytes(8)), 1)
            finally:
                for name in ("cont", "detach"):
                    monkeypatch.setattr(ptrace, name, once(getattr(ptrace, name)))
        assert len(done) == 2
        monkeypatch.undo()
        to.write(b"xline\n")  # the first one is for the call
        to.flush()
        assert back.readline() == b"line\n"
