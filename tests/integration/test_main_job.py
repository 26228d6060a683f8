"""The main job through the command line: pre-dump, dump, merge, verify, show, restore; and what must be refused.

root: on (pids are chosen at restore); guest: off (a dozen interpreters started under emulation take minutes).
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.root,
    pytest.mark.timeout(300),
    pytest.mark.skipif(os.getuid() != 0, reason="choosing pids at restore needs root: run as root"),
]

# Counts in memory, keeps a checksum of what it wrote, and says so when asked.
TARGET = """
import hashlib, os, sys, threading, time
d = sys.argv[1]
heap = bytearray(os.urandom(8 << 20))
seen = [0] * 4
def spin(i):
    while True:
        seen[i] += 1
        time.sleep(0.005)
for i in range(4):
    threading.Thread(target=spin, args=(i,), daemon=True).start()
n = 0
marks = {}
open(d + "/ready.tmp", "w").close(); os.rename(d + "/ready.tmp", d + "/ready")
while not os.path.exists(d + "/go"):
    at = n % 4096 * 251  # so many places, however long it takes: its own memory must not outgrow the rest
    heap[at] = n & 255
    marks[at] = n & 255
    n += 1
    if n % 64 == 0:
        time.sleep(0.002)
before, end = list(seen), time.monotonic() + 30
while not (goes_on := all(b > a for a, b in zip(before, seen))) and time.monotonic() < end:
    time.sleep(0.01)
ok = goes_on and all(heap[a] == v for a, v in marks.items())
with open(d + "/verdict.tmp", "w") as f:
    f.write("PASS" if ok else "FAIL")
os.rename(d + "/verdict.tmp", d + "/verdict")
sys.exit(7)
"""


def ckpt(*arguments: object, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "ckpt", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=100,
        stdin=subprocess.DEVNULL,
    )
    if check:
        assert done.returncode == 0, done.stderr
    return done


def eventually(path: Path, seconds: float = 60) -> str:
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, f"{path.name} did not come"
        time.sleep(0.02)
    return path.read_text()


def end(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


@pytest.fixture
def target(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", TARGET, str(tmp_path)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        eventually(tmp_path / "ready")
        yield process
    finally:
        process.kill()
        process.wait()


def trackers() -> list[str]:
    from ckpt.tracker import choice

    return [name for name in choice.NEEDS if not choice.missing(name)]


@pytest.mark.parametrize("tracker", ["soft-dirty", "write-protect", "content-hash"])
@pytest.mark.parametrize("merged", [False, True], ids=["chain", "merged"])
def test_a_chain_restores(target: subprocess.Popen[bytes], tmp_path: Path, tracker: str, merged: bool) -> None:
    if tracker not in trackers():
        pytest.skip(f"this kernel has no {tracker}: the guest lanes or a newer kernel run it")
    chain = tmp_path / "chain"
    for number in (1, 2):
        made = json.loads(ckpt("pre-dump", "-t", target.pid, "-D", chain, "--tracker", tracker, "--json").stdout)
        assert (made["round"], made["kind"], made["tracker"]) == (number, "pre-dump", tracker)
        assert (made["full_reason"] is None) == (number > 1), made["full_reason"]
    ckpt("dump", "-t", target.pid, "-D", chain, "--tracker", tracker)
    assert target.wait() == -signal.SIGKILL
    ckpt("verify", "-D", chain)
    images = json.loads(ckpt("show", "-D", chain, "--json").stdout)["images"]
    assert [image["kind"] for image in images] == ["pre-dump", "pre-dump", "dump"]
    assert images[1]["pages_skipped_parent"] > images[1]["pages_written"]
    source = chain
    if merged:
        source = tmp_path / "merged.ckpt"
        ckpt("merge", "-D", chain, "-o", source)
    try:
        ckpt("restore", "-D", source, "--detach")
        (tmp_path / "go").touch()
        assert eventually(tmp_path / "verdict") == "PASS"
    finally:
        end(target.pid)


def test_restore_passes_the_exit_status_on(target: subprocess.Popen[bytes], tmp_path: Path) -> None:
    ckpt("dump", "-t", target.pid, "-D", tmp_path / "chain")
    target.wait()
    (tmp_path / "go").touch()
    try:
        assert ckpt("restore", "-D", tmp_path / "chain", check=False).returncode == 7
    finally:
        end(target.pid)


def test_a_dump_leaves_the_task_running(target: subprocess.Popen[bytes], tmp_path: Path) -> None:
    ckpt("dump", "-t", target.pid, "-D", tmp_path / "chain", "--leave-running")
    (tmp_path / "go").touch()
    assert eventually(tmp_path / "verdict") == "PASS"
    assert target.wait() == 7


def test_a_dump_leaves_the_task_stopped(target: subprocess.Popen[bytes], tmp_path: Path) -> None:
    ckpt("dump", "-t", target.pid, "-D", tmp_path / "chain", "--leave-stopped")
    limit = time.monotonic() + 60
    while (state := Path(f"/proc/{target.pid}/stat").read_text().rsplit(")", 1)[1].split()[0]) != "T":
        assert state in "Rt" and time.monotonic() < limit, (
            f"its state is {state}"
        )  # it comes to its signal when it runs
        time.sleep(0.01)
    os.kill(target.pid, signal.SIGCONT)
    (tmp_path / "go").touch()
    assert eventually(tmp_path / "verdict") == "PASS"


def test_precopy_ends_in_a_dump(target: subprocess.Popen[bytes], tmp_path: Path) -> None:
    done = ckpt("precopy", "-t", target.pid, "-D", tmp_path / "chain", "--max-rounds", 2, "--json")
    assert json.loads(done.stdout)["images"][-1]["kind"] == "dump"


def refused(code: int, *arguments: object) -> dict[str, object]:
    done = ckpt(*arguments, "--json", check=False)
    assert done.returncode == code, done.stderr
    error = json.loads(done.stderr.splitlines()[-1])["error"]
    assert error["exit_code"] == code
    assert error["message"] and error["hint"]
    return dict(error)


def test_bad_input_is_refused_and_nothing_is_left(target: subprocess.Popen[bytes], tmp_path: Path) -> None:
    chain = tmp_path / "chain"
    refused(21, "pre-dump", "-t", 4194300, "-D", chain)
    refused(20, "pre-dump", "-t", 2, "-D", chain)
    assert not chain.exists()
    ckpt("pre-dump", "-t", target.pid, "-D", chain)
    before = sorted(path.name for path in chain.iterdir())
    refused(42, "pre-dump", "-t", 1, "-D", chain)
    refused(30, "restore", "-D", chain)
    assert sorted(path.name for path in chain.iterdir()) == before
    ckpt("dump", "-t", target.pid, "-D", chain, "--leave-running")
    refused(51, "restore", "-D", chain)
    image = chain / "0002.ckpt"
    data = bytearray(image.read_bytes())
    data[len(data) // 2] ^= 1
    image.write_bytes(data)
    refused(30, "verify", "-D", chain)
    (tmp_path / "go").touch()
    assert eventually(tmp_path / "verdict") == "PASS"
