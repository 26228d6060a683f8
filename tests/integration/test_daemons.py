"""Daemons: the parent and the leader of the session have ended, the streams lead nowhere, SIGTERM asks for a check."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import proc
from tests.support.commands import WAIT, commands

pytestmark = [pytest.mark.root, pytest.mark.timeout(600)]

DAEMON = """
import os, signal, sys
def ids():
    return f"{os.getpid()} {os.getppid()} {os.getsid(0)} {os.getpgid(0)}"
where = sys.argv[1]
if os.fork():
    os._exit(0)
os.setsid()
if sys.argv[2] == "group":
    member = os.fork()
    if member == 0:
        # Its group is an orphan when the leader ends: the kernel sends a stopped one SIGHUP and SIGCONT.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        os.setpgid(0, 0)
        os.kill(os.getpid(), signal.SIGSTOP)
        while True:
            signal.pause()
    os.waitpid(member, os.WUNTRACED)
leader = os.getpid()
if os.fork():
    os._exit(0)
while os.getppid() == leader:
    pass
if sys.argv[2] == "group":
    os.setpgid(0, member)
    os.kill(member, signal.SIGKILL)
for fd in range(3):
    os.dup2(os.open("/dev/null", os.O_RDWR), fd)
told = []
def check(*_):
    with open(where + "/after.part", "w") as file:
        file.write(ids())
    os.rename(where + "/after.part", where + "/after")
    os._exit(0)
signal.signal(signal.SIGTERM, check)
with open(where + "/before.part", "w") as file:
    file.write(ids())
os.rename(where + "/before.part", where + "/before")
while True:
    signal.pause()
"""


@pytest.fixture(autouse=True)
def _reaper() -> Iterator[None]:
    if os.geteuid() != 0:
        pytest.skip("needs root: run as root")
    proc.become_subreaper()
    yield
    proc.become_subreaper(False)


def reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return


def until(holds: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + WAIT
    while not holds():
        assert time.monotonic() < end, what
        reap()
        time.sleep(0.01)


def ckpt(tmp_path: Path, *arguments: str) -> None:
    done = commands().run([*arguments], tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("kind", ["plain", "group"])
@pytest.mark.parametrize(("pre_dumps", "cycles"), [(0, 1), (1, 1), (3, 1), (1, 2)])
def test_a_daemon_keeps_its_session_and_group(tmp_path: Path, kind: str, pre_dumps: int, cycles: int) -> None:
    subprocess.run([sys.executable, "-S", "-c", DAEMON, str(tmp_path), kind], stdin=subprocess.DEVNULL, check=True)
    until((tmp_path / "before").exists, "the daemon starts")
    before = (tmp_path / "before").read_text().split()
    pid = int(before[0])
    try:
        for cycle in range(cycles):
            images = str(tmp_path / f"images-{cycle}")
            for _ in range(pre_dumps):
                ckpt(tmp_path, "pre-dump", "-t", before[0], "-D", images)
            ckpt(tmp_path, "dump", "-t", before[0], "-D", images)
            until(lambda: not Path(f"/proc/{pid}").exists(), "the daemon is gone")
            ckpt(tmp_path, "restore", "-D", images, "--detach")
        os.kill(pid, signal.SIGTERM)
        until((tmp_path / "after").exists, "the daemon answers")
    finally:
        if Path(f"/proc/{pid}").exists():
            os.kill(pid, signal.SIGKILL)
        until(lambda: not Path(f"/proc/{pid}").exists(), "the daemon has ended")
    after = (tmp_path / "after").read_text().split()
    assert (after[0], after[2:]) == (before[0], before[2:])
