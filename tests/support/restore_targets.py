"""Targets of the restore tests: Python programs that build some state, say so, wait in pause, and check it after."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ckpt.errors import NoSuchTask
from ckpt.kernel import procfs, uapi, uapi_restore
from ckpt.kernel.libc import syscall

WAIT = 60.0

PRELUDE = """
import ctypes, mmap, os, signal, sys, threading, time
libc = ctypes.CDLL(None, use_errno=True)
go = []
signal.signal(signal.SIGUSR1, lambda *_: go.append(1))
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
def wait():
    old = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    mask = ctypes.create_string_buffer(sum(1 << n - 1 for n in old - {signal.SIGUSR1}).to_bytes(128, "little"))
    open(sys.argv[1] + ".ready", "w").write("ready")
    while not go:
        libc.sigsuspend(ctypes.byref(mask))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR1])
def check(truth, what):
    if not truth:
        print("WRONG", what, flush=True)
        os._exit(99)
"""


class Target:
    """A running program; `stop` kills whatever of it is left."""

    def __init__(self, program: str, directory: Path, name: str = "target") -> None:
        self.base = directory / name
        self.output = directory / f"{name}.out"
        self.images = directory / f"{name}.images"
        script = directory / f"{name}.py"
        script.write_text(PRELUDE + program)
        with self.output.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-S", str(script), str(self.base)],
                stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
            )  # fmt: skip
        self.pid = self.process.pid
        self.pids = {self.pid}
        self.others: set[int] = set()  # children of the test process that are not of the target

    def ready(self) -> None:
        """Until the program waits, every task of it asleep."""
        end = time.monotonic() + WAIT
        while not Path(f"{self.base}.ready").exists():
            assert self.process.poll() is None, self.text()
            assert time.monotonic() < end, self.text()
            time.sleep(0.01)
        while any(_runs(pid) for pid in self.tree()):
            assert time.monotonic() < end, f"it does not come to rest: {self.text()}"
            time.sleep(0.01)
        self.pids |= set(self.tree())

    def tree(self) -> list[int]:
        found, todo = [], [self.pid]
        while todo:
            pid = todo.pop()
            found.append(pid)
            try:
                todo += procfs.children(pid, procfs.threads(pid))
            except NoSuchTask:
                continue
        return sorted(found)

    def gone(self) -> None:
        """Until the dumped original is reaped and its numbers are free."""
        self.process.wait(WAIT)
        end = time.monotonic() + WAIT
        while any(procfs.exists(pid) for pid in self.pids):
            assert time.monotonic() < end, "the dumped tree is still there"
            for pid in self.pids:
                _reap(pid)
            time.sleep(0.01)

    def text(self) -> str:
        return self.output.read_text()

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(WAIT)
        for pid in self.pids:
            try:
                mine = procfs.stat(pid).sid in self.pids or procfs.stat(pid).ppid == os.getpid()
                if mine:
                    os.kill(pid, signal.SIGKILL)
            except (NoSuchTask, ProcessLookupError):
                continue
        end = time.monotonic() + WAIT
        while any(_ours(pid) for pid in self.pids):  # a killed one takes a moment, and would be left to the next test
            assert time.monotonic() < end, "a killed target is still there"
            for pid in self.pids:
                _reap(pid)
            time.sleep(0.005)


def _runs(pid: int) -> bool:
    try:
        return procfs.stat(pid).state == "R"
    except NoSuchTask:  # it has just ended
        return False


def _ours(pid: int) -> bool:
    try:
        return procfs.stat(pid).ppid == os.getpid()
    except NoSuchTask:
        return False


def _reap(pid: int) -> None:
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        pass


@contextmanager
def target(program: str, directory: Path, name: str = "target") -> Iterator[Target]:
    made = Target(program, directory, name)
    try:
        made.ready()
        yield made
    finally:
        made.stop()


@contextmanager
def become_subreaper() -> Iterator[None]:
    """Orphans of killed targets come to this process, which reaps them."""
    syscall("PR_SET_CHILD_SUBREAPER", uapi.SYS_prctl, uapi_restore.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        syscall("PR_SET_CHILD_SUBREAPER", uapi.SYS_prctl, uapi_restore.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
