"""Snapshots: a dump that leaves the tree running is one instant of it, and the copy-on-write fork goes unseen.

root: off (a process may fork what it may trace); guest: on (what a fork does to tracking state differs by kernel).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ckpt
from ckpt.chain.layers import view
from ckpt.errors import CkptError, TaskError
from ckpt.kernel import procfs
from ckpt.kernel import ptrace_requests as requests
from ckpt.kernel.memory import Memory
from ckpt.records.runs import PAGE_SIZE
from ckpt.trace import memory_copy
from ckpt.tracker import choice

pytestmark = [pytest.mark.guest, pytest.mark.timeout(300)]
WAIT = 120.0

PRELUDE = """
import ctypes, mmap, os, resource, signal, sys, threading, time
libc = ctypes.CDLL(None, use_errno=True)
P = 4096
def area(pages, flags=0x22, advice=None):
    libc.mmap.restype = ctypes.c_void_p
    at = libc.mmap(None, ctypes.c_size_t(pages * P), 3, flags, -1, ctypes.c_long(0))
    if advice is not None:
        assert libc.madvise(ctypes.c_void_p(at), ctypes.c_size_t(pages * P), advice) == 0
    return at
def say(name, text=""):
    with open(f"{sys.argv[1]}/{name}.new", "w") as f:
        f.write(text)
    os.rename(f"{sys.argv[1]}/{name}.new", f"{sys.argv[1]}/{name}")
"""

# Writes the same number to page after page of every kind of memory, over and over: at any instant the numbers fall
# once, by one.
COUNTER = """
kinds = {"private": area(300), "dontfork": area(9, advice=10), "wiped": area(9, advice=18), "shared": area(9, 0x21)}
sizes = {"private": 300, "dontfork": 9, "wiped": 9, "shared": 9}
cells = [ctypes.c_uint64.from_address(at + P * i) for name, at in kinds.items() for i in range(sizes[name])]
for cell in cells:
    cell.value = 1
say("where", repr({name: (at, sizes[name]) for name, at in kinds.items()}))
n = 1
while not os.path.exists(sys.argv[1] + "/stop"):
    for _ in range(20):
        n += 1
        for cell in cells:
            cell.value = n
say("stopped")
while True:
    signal.pause()
"""

# Looks for children all the time, in every way.
LOOKOUT = """
seen = []
signal.signal(signal.SIGCHLD, lambda *_: seen.append("SIGCHLD"))
os.register_at_fork(before=lambda: seen.append("before fork"), after_in_child=lambda: seen.append("in child"))
heap = bytearray(os.urandom(1 << 20)) * 24
fds = sorted(os.listdir("/proc/self/fd"))
session = os.getsid(0), os.getpgid(0)
rounds = 0
def look():
    global rounds
    rounds += 1
    try:
        seen.append(os.waitpid(-1, os.WNOHANG | 0x40000000))
    except ChildProcessError:
        pass
    if open("/proc/self/task/%d/children" % os.getpid()).read():
        seen.append("children")
say("ready")
while not os.path.exists(sys.argv[1] + "/stop"):
    look()
    heap[rounds * P % len(heap)] = 1
if sorted(os.listdir("/proc/self/fd")) != fds:
    seen.append("descriptors")
if (os.getsid(0), os.getpgid(0)) != session:
    seen.append("session")
if signal.sigpending():
    seen.append(signal.sigpending())
say("verdict", repr(seen))
"""


@contextmanager
def program(code: str, place: Path, first: str) -> Iterator[subprocess.Popen[bytes]]:
    """A Python program in a session of its own that has said `first`; killed at the end."""
    with (place / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-S", "-c", PRELUDE + code, str(place)],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            # The kernel writes the CPU's number into an rseq area: memory that changes by itself.
            env={**os.environ, "GLIBC_TUNABLES": "glibc.pthread.rseq=0"},
        )  # fmt: skip
    try:
        eventually(place / first, process)
        yield process
    finally:
        process.kill()
        process.wait()


def eventually(path: Path, process: subprocess.Popen[bytes]) -> str:
    end = time.monotonic() + WAIT
    while not path.exists():
        assert process.poll() is None, (path.parent / "log").read_text()
        assert time.monotonic() < end, f"{path.name} did not come"
        time.sleep(0.01)
    return path.read_text()


def copies(place: Path) -> list[int]:
    """Living copies of the memory of the program that says there what it does; others have copies on this machine."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(CkptError, OSError):
                stat = procfs.stat(int(entry.name))
                words = (entry / "cmdline").read_bytes().split(b"\0")
                if stat.comm == "ckpt-copy" and stat.state not in "ZX" and os.fsencode(place) in words:
                    found.append(stat.pid)
    return found


def numbers(directory: Path, pid: int, where: dict[str, tuple[int, int]]) -> list[int]:
    """What COUNTER had in its pages, as the newest image of the chain has it."""
    found: list[int] = []
    with view(directory) as image:
        shared = next(key for key in image.spaces() if key.startswith("shm:"))
        for name, (address, size) in where.items():
            first = 0 if name == "shared" else address // PAGE_SIZE
            pages = np.arange(first, first + size, dtype=np.uint64)
            data = image.read_pages(shared if name == "shared" else f"mm:{pid}", pages)
            found += np.frombuffer(data, "<u8")[:: PAGE_SIZE // 8].tolist()
    return found


def goes_on(pid: int, address: int, number: int) -> None:
    """Until COUNTER has written another number there."""
    end = time.monotonic() + WAIT
    with Memory(pid) as memory:
        while int.from_bytes(memory.read(address, 8), "little") == number:
            assert time.monotonic() < end, f"it still has {number}"
            time.sleep(0.001)


def check_one_instant(found: list[int]) -> None:
    falls = [a - b for a, b in pairwise(found) if a != b]
    assert falls in ([], [1]), found


@pytest.mark.parametrize("how", ["fork", "frozen"])
def test_a_snapshot_is_one_instant(tmp_path: Path, how: str) -> None:
    with program(COUNTER, tmp_path, "where") as target:
        where = eval((tmp_path / "where").read_text())
        chain = tmp_path / "chain"
        seen = []
        for _ in range(4):
            made = ckpt.dump(target.pid, chain, leave="running", snapshot=how)
            assert made.statistics.snapshot == how, made.statistics.snapshot_reason
            found = numbers(chain, target.pid, where)
            check_one_instant(found)
            seen.append(found[0])
            goes_on(target.pid, where["private"][0], found[0])
        assert len(set(seen)) == 4
        assert copies(tmp_path) == []


@pytest.mark.parametrize("tracker", list(choice.NEEDS))
def test_tracking_stays_exact_through_forks(tmp_path: Path, tracker: str) -> None:
    if choice.missing(tracker):
        pytest.skip(f"this kernel or user lacks {tracker}")
    with program(COUNTER, tmp_path, "where") as target:
        where = eval((tmp_path / "where").read_text())
        chain = tmp_path / "chain"
        for number in range(5):
            if number % 2:
                ckpt.pre_dump(target.pid, chain, tracker=tracker)
            else:
                made = ckpt.dump(target.pid, chain, leave="running", snapshot="fork", tracker=tracker)
                assert (made.header.full_reason is None) == (number > 0), made.header.full_reason
                check_one_instant(numbers(chain, target.pid, where))
        (tmp_path / "stop").touch()
        eventually(tmp_path / "stopped", target)
        while not Path(f"/proc/{target.pid}/syscall").read_text().startswith("34 "):  # pause(2)
            time.sleep(0.01)
        made = ckpt.dump(target.pid, chain, leave="running", snapshot="fork", tracker=tracker)
        assert made.header.full_reason is None
        compare(chain, target.pid)


def compare(chain: Path, pid: int) -> None:
    """Every private page of the newest image is as in the idle task."""
    with view(chain) as image, Memory(pid) as memory:
        compared = 0
        for pages, data in image.read(f"mm:{pid}"):
            for at, page in enumerate(pages.tolist()):
                mine = bytes(data[at * PAGE_SIZE : (at + 1) * PAGE_SIZE])
                if memory.read(page * PAGE_SIZE, PAGE_SIZE) != mine:
                    line = next(m for m in procfs.maps(pid) if m.start <= page * PAGE_SIZE < m.end)
                    raise AssertionError(f"page {page:x} of {line.path or 'anonymous memory'} differs")
                compared += 1
        assert compared > 300


def test_nothing_of_the_fork_is_seen(tmp_path: Path) -> None:
    with program(LOOKOUT, tmp_path, "ready") as target:
        for number in range(4):
            made = ckpt.dump(target.pid, tmp_path / str(number), leave="running", snapshot="fork")
            assert made.statistics.snapshot == "fork"
        (tmp_path / "stop").touch()
        assert eventually(tmp_path / "verdict", target) == "[]"
    assert copies(tmp_path) == []


def test_the_quicker_way_is_taken(tmp_path: Path) -> None:
    with program(LOOKOUT, tmp_path, "ready") as target:
        chain = tmp_path / "chain"
        first = ckpt.dump(target.pid, chain, leave="running").statistics
        assert first.pages_written * PAGE_SIZE > 16 << 20
        (tmp_path / "stop").touch()
        eventually(tmp_path / "verdict", target)


def test_a_killed_copy_fails_the_round(tmp_path: Path) -> None:
    with program(COUNTER, tmp_path, "where") as target:
        chain = tmp_path / "chain"
        ckpt.pre_dump(target.pid, chain)
        before = sorted(path.name for path in chain.iterdir())

        def kill(phase: str, done: int, total: int) -> None:
            for pid in copies(tmp_path):
                os.kill(pid, signal.SIGKILL)
            while copies(tmp_path):  # its memory can be read until it comes to its end
                time.sleep(0.001)

        with pytest.raises(TaskError, match="was killed"):
            ckpt.dump(target.pid, chain, leave="running", snapshot="fork", tracker="content-hash", progress=kill)
        assert sorted(path.name for path in chain.iterdir()) == before
        assert target.poll() is None and copies(tmp_path) == []
        ckpt.dump(target.pid, chain, leave="running", snapshot="fork")


LIMITED = """
heap = bytearray(os.urandom(1 << 20)) * 40
resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
os.setgroups([]); os.setgid(65534); os.setuid(65534)
say("ready")
while True:
    time.sleep(0.01)
"""

ADOPTS = """
heap = bytearray(os.urandom(1 << 20)) * 40
assert libc.prctl(36, 1, 0, 0, 0) == 0
say("ready")
while True:
    time.sleep(0.01)
"""


@pytest.mark.skipif(os.getuid() != 0, reason="starts a program of another user: run as root")
def test_a_limit_on_processes_means_a_frozen_copy(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    for parent in tmp_path.parents[:3]:
        with suppress(PermissionError):
            parent.chmod(parent.stat().st_mode | 0o055)
    with program(LIMITED, tmp_path, "ready") as target:
        made = ckpt.dump(target.pid, tmp_path / "chain", leave="running").statistics
        assert made.snapshot == "frozen" and "EAGAIN" in (made.snapshot_reason or "")
        with pytest.raises(CkptError, match="EAGAIN"):
            ckpt.dump(target.pid, tmp_path / "other", leave="running", snapshot="fork")
        assert not (tmp_path / "other").exists() and target.poll() is None


def test_a_subreaper_is_not_given_the_copy(tmp_path: Path) -> None:
    with program(ADOPTS, tmp_path, "ready") as target:
        made = ckpt.dump(target.pid, tmp_path / "chain", leave="running", snapshot="fork").statistics
        assert made.snapshot == "frozen" and "subreaper" in (made.snapshot_reason or "")


# ---------------------------------------------------------------- ckpt dies

STEPS = ("cont", "syscall_step", "setregset", "setoptions", "getregset", "geteventmsg", "setsigmask")


def dump_that_dies(pid: int, chain: Path, at: int) -> int:
    """The wait status of a process that makes a snapshot, and kills itself before step `at` of the fork."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # threads that have ended are no matter
        child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    count = 0

    def dying(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **keywords: Any) -> Any:
            nonlocal count
            count += 1
            if count == at:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **keywords)

        return call

    def copied(remote: Any) -> Any:
        for name in STEPS:
            setattr(requests, name, dying(getattr(requests, name)))
        Memory.write = dying(Memory.write)  # type: ignore[method-assign]
        return copy(remote)

    try:
        copy, memory_copy.copy_memory = memory_copy.copy_memory, copied
        ckpt.dump(pid, chain, leave="running", snapshot="fork")
        os._exit(0)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(1)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ckpt_may_die_at_any_step_of_the_fork(tmp_path: Path) -> None:
    """SIGKILL before each ptrace request and each write to the task's memory, one after another."""
    with program(LOOKOUT, tmp_path, "ready") as target:
        at, finished = 0, False
        while not finished:
            at += 1
            status = dump_that_dies(target.pid, tmp_path / "chain", at)
            finished = status == 0
            assert finished or status == signal.SIGKILL, status
            end = time.monotonic() + WAIT
            while copies(tmp_path):
                assert time.monotonic() < end, at
                time.sleep(0.01)
            assert target.poll() is None, at
            children = Path(f"/proc/{target.pid}/task/{target.pid}/children")
            while children.read_text():
                assert time.monotonic() < end, f"a child is left after step {at}"
                time.sleep(0.01)
        assert at > 30
        (tmp_path / "stop").touch()
        seen = eval(eventually(tmp_path / "verdict", target))
        # The helper may be seen while the task runs on its way back; never a signal or anything that stays.
        assert set(seen) <= {"children"}, seen


def test_json_and_show_tell_how(tmp_path: Path) -> None:
    with program(COUNTER, tmp_path, "where") as target:
        done = subprocess.run(
            [sys.executable, "-m", "ckpt", "dump", "-t", str(target.pid), "-D", str(tmp_path / "chain"),
             "--leave-running", "--snapshot", "fork", "--json"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert json.loads(done.stdout)["snapshot"] == "fork"
        shown = subprocess.run(
            [sys.executable, "-m", "ckpt", "show", "-D", str(tmp_path / "chain")],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert " fork " in shown.stdout
