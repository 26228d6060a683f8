"""Tasks forked between two rounds: what they still have of their parent's memory is not stored again, and is exact."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import ckpt
from ckpt.chain import merge, view
from ckpt.tracker import choice
from tests.support import proc

pytestmark = [
    pytest.mark.root,
    pytest.mark.guest,
    pytest.mark.timeout(240),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: restores under the old pids"),
]
PAGE, PAGES, OWN = 4096, 2048, 50

# The root has PAGES pages; its child writes to OWN of them, and a child of that one to one more.
PROGRAM = f"""
import mmap, os, sys, time
area = mmap.mmap(-1, {PAGES * PAGE}, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
area[:] = os.urandom({PAGES * PAGE})
said = os.open("said", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
os.write(said, b"r")
while not os.path.exists("fork"):
    time.sleep(0.01)
if os.fork() == 0:
    for page in range(0, {PAGES}, {PAGES // OWN}):
        area[page * {PAGE} + 7] ^= 0x55
    if os.fork() == 0:
        area[3 * {PAGE}] ^= 1
os.write(said, b"f")
while True:
    time.sleep(1)
"""


def said(place: Path, text: bytes) -> None:
    end = time.monotonic() + 60
    while not (place / "said").exists() or (place / "said").read_bytes() != text:
        assert time.monotonic() < end, "the program did not say so"
        time.sleep(0.02)


def area(pid: int) -> bytes:
    """The program's pages: its only private mapping of that size."""
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        start, end = (int(part, 16) for part in line.split()[0].split("-"))
        if end - start >= PAGES * PAGE and len(line.split()) == 5 and " rw-p " in line:
            with open(f"/proc/{pid}/mem", "rb", buffering=0) as mem:
                return os.pread(mem.fileno(), end - start, start)
    raise AssertionError(f"{pid} has no such mapping")


@pytest.mark.parametrize("tracker", choice.NEEDS)
def test_what_a_child_shares_is_stored_once(tmp_path: Path, tracker: str) -> None:
    if choice.missing(tracker):
        pytest.skip(choice.missing(tracker)[0].evidence)
    proc.become_subreaper()
    chain = tmp_path / "chain"
    root = subprocess.Popen([sys.executable, "-S", "-c", PROGRAM], cwd=tmp_path, start_new_session=True)
    try:
        said(tmp_path, b"r")
        first = ckpt.pre_dump(root.pid, chain, tracker=tracker)
        assert first.statistics.pages_written > PAGES
        (tmp_path / "fork").touch()
        said(tmp_path, b"rfff")
        second = ckpt.pre_dump(root.pid, chain, tracker=tracker)
        # Three tasks, each with a stack and a heap that an interpreter writes to.
        assert second.statistics.pages_written < PAGES // 2, second
        assert second.statistics.pages_skipped_parent > 3 * (PAGES - OWN - 1), second
        pids = [pid for pid in proc.processes() if (about := proc.parent_and_session(pid)) and about[1] == root.pid]
        assert len(pids) == 3
        last = ckpt.dump(root.pid, chain, tracker=tracker, leave="running")
        before = {pid: area(pid) for pid in pids}
        assert last.statistics.pages_written < PAGES // 2, last
        os.killpg(root.pid, signal.SIGKILL)
        merge(chain, tmp_path / "merged")
        for source in (chain, tmp_path / "merged"):
            restored(source, root.pid, before)
    finally:
        try:
            os.killpg(root.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        reap(root.pid)
        root.wait()
        proc.become_subreaper(False)
    with view(chain) as image:
        assert ckpt.verify(chain).ok and len(image.spaces()) == 3


def reap(session: int) -> None:
    end = time.monotonic() + 60
    while any((about := proc.parent_and_session(pid)) and about[1] == session for pid in proc.processes()):
        assert time.monotonic() < end
        try:
            os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            time.sleep(0.01)


def restored(source: Path, root: int, before: dict[int, bytes]) -> None:
    reap(root)
    made = ckpt.restore(source)
    assert set(made.pids) == set(before)
    assert {pid: area(pid) for pid in before} == before
    os.killpg(root, signal.SIGKILL)
