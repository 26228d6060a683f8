"""Real programs under way, what ckpt does to them, and clients of theirs."""

from __future__ import annotations

import itertools
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support import harness
from tests.support.commands import commands

WAIT = 60
CLOCKS = """
import os, sys, time
while not os.path.exists(sys.argv[1] + ".end"):
    with open(sys.argv[1] + ".part", "w") as out:
        out.write(f"{time.monotonic()} {time.clock_gettime(time.CLOCK_BOOTTIME)}")
    os.rename(sys.argv[1] + ".part", sys.argv[1])
    time.sleep(0.01)
sys.exit(9)
"""
"""A program that writes CLOCK_MONOTONIC and CLOCK_BOOTTIME to the file it is given, until one with .end is there."""


def until(condition: Callable[[], object], what: str) -> None:
    end = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < end, f"timed out: {what}"
        time.sleep(0.05)


def telling(code: str, place: Path) -> tuple[subprocess.Popen[bytes], Path]:
    """A Python program that writes, over and over, to the file it is given; it has begun. The file's path."""
    said, program, null = place / "said", place / "program", subprocess.DEVNULL
    program.write_text(code)
    command = [sys.executable, "-S", str(program), str(said)]
    started = subprocess.Popen(command, stdin=null, stdout=null, stderr=null, start_new_session=True)
    until(said.exists, "it has written")
    return started, said


def need(*programs: str) -> None:
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")


def free_port() -> int:
    """One that nobody has, and that the kernel gives nobody who does not ask for it."""
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.randrange(lowest - 10_000, lowest)
        with suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port


class Program:
    """A program under way, and what ckpt does to it."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.root = 0
        self.options: list[str] = []
        self.chains = itertools.count()

    def start(self, *command: object, **more: object) -> None:
        with (self.place / "log").open("ab") as log:
            streams = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log}
            made = subprocess.Popen([*map(str, command)], cwd=self.place, start_new_session=True, **{**streams, **more})
        self.root, made.returncode = made.pid, 0  # `reap` waits for it

    def ckpt(self, *arguments: object) -> None:
        done = commands().run([*map(str, arguments)], self.place)
        assert done.returncode == 0, f"ckpt {arguments}: {done.stdout}{done.stderr}{self.log()}"

    def log(self) -> str:
        return (self.place / "log").read_text(errors="replace")[-2000:]

    def through(self, load: Callable[[], None]) -> None:
        """Two cycles: from the chain, and from the merged image of another chain; `load` works and checks."""
        for merged in (False, True):
            chain = self.place / f"chain{next(self.chains)}"
            for _ in range(3):
                self.ckpt("pre-dump", "-t", self.root, "-D", chain)
                load()
            tree = harness_tree(self.root)
            self.ckpt("dump", "-t", self.root, "-D", chain, *self.options)
            until(lambda pids=tree: reap(pids), "the tree is gone")
            source = chain
            if merged:
                source = self.place / "merged.ckpt"
                self.ckpt("merge", "-D", chain, "-o", source)
            self.ckpt("verify", "-D", source)
            self.ckpt("restore", "-D", source, "--detach")
            assert (now := harness_tree(self.root)) == tree, f"the same processes: {tree}, now {now}"
            load()

    def end(self) -> None:
        if not self.root:
            return
        for pid in harness_tree(self.root):
            with harness.suppressed(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        until(lambda: reap([self.root]), "the end")


def harness_tree(root: int) -> list[int]:
    """The pids of the tree, in ascending order."""
    found, todo = [], [root]
    while todo:
        pid = todo.pop()
        found.append(pid)
        with harness.suppressed(OSError):
            for task in Path(f"/proc/{pid}/task").iterdir():
                todo += map(int, (task / "children").read_text().split())
    return sorted(found)


def reap(pids: list[int]) -> bool:
    """Whether all are gone; zombies that are ours are waited for."""
    for pid in pids:
        with harness.suppressed(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
    return not any(Path(f"/proc/{pid}").exists() for pid in pids)


class Line:
    """A connection that sends lines and reads lines, kept open across every dump."""

    def __init__(self, port: int) -> None:
        until(lambda: self._connect(port), f"port {port} answers")

    def _connect(self, port: int) -> bool:
        try:
            self.socket = socket.create_connection(("127.0.0.1", port), timeout=WAIT)
        except OSError:
            return False
        self.file = self.socket.makefile("rb")
        return True

    def ask(self, text: str) -> str:
        self.socket.sendall(text.encode() + b"\r\n")
        return self.file.readline().decode().strip()

    def close(self) -> None:
        self.file.close()
        self.socket.close()


def ask_anew(port: int, text: str) -> str:
    """One question over a connection of its own."""
    line = Line(port)
    try:
        return line.ask(text)
    finally:
        line.close()


# ---------------------------------------------------------------- servers
