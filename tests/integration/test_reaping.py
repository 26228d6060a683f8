"""After a dump no pid of the tree is taken, even where nobody waits for orphans."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import ckpt
from tests.support import proc

pytestmark = pytest.mark.root

TREE = """
import os, time
def say(word):
    os.write(1, f"{word}\\n".encode())  # whole: they all write to one file
def fork(body):
    pid = os.fork()
    if pid == 0:
        body()
        os._exit(0)
    return pid
def leaf():
    time.sleep(1000)
def branch():
    for _ in range(3):
        say(fork(leaf))
    say(fork(lambda: None))
    time.sleep(1000)
for _ in range(3):
    say(fork(branch))
say("ready")
time.sleep(1000)
"""


def test_pids_are_free_where_nobody_waits_for_orphans(tmp_path: Path) -> None:
    proc.become_subreaper()  # orphans come here, and are let lie
    said = tmp_path / "said"
    try:
        with said.open("w") as out:
            target = subprocess.Popen([sys.executable, "-c", TREE], stdin=subprocess.DEVNULL, stdout=out)
        end = time.monotonic() + 60
        try:
            while len(said.read_text().split()) < 16:
                assert target.poll() is None and time.monotonic() < end, said.read_text()
                time.sleep(0.01)
            pids = [int(word) for word in said.read_text().split() if word.isdigit()]
            ckpt.dump(target.pid, tmp_path / "chain")
            target.wait()
            assert [pid for pid in pids if Path(f"/proc/{pid}").exists()] == []
        finally:
            target.kill()
            target.wait()
            for pid in proc.processes():
                about = proc.parent_and_session(pid)
                if about and about[0] == os.getpid() and about[2] == "Z":
                    os.waitpid(pid, 0)
    finally:
        proc.become_subreaper(False)
