"""Whatever makes tracking worthless is noticed by the next round, which says why; so does `ckpt show`."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ckpt import chain, pre_dump
from ckpt.engine.round import _Round
from ckpt.kernel import keeper, ksm, pagemap
from ckpt.kernel.pagemap import clear_soft_dirty
from ckpt.trace.freezer import freeze
from ckpt.tracker import choice
from ckpt.tracker.write_protect import _scan
from tests.support import proc
from tests.support.commands import commands
from tests.support.oracle import truth

pytestmark = [
    pytest.mark.root,
    pytest.mark.timeout(300),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: run as root"),
]

# Blocked for good, so that memory can be compared; SIGUSR1 makes it execute itself, SIGUSR2 write a page.
PROGRAM = """
import mmap, os, signal, sys
area = mmap.mmap(-1, 1 << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
for at in range(0, len(area), 4096):
    area[at:at + 8] = at.to_bytes(8, "little")
signals = [signal.SIGUSR1, signal.SIGUSR2]
signal.pthread_sigmask(signal.SIG_BLOCK, signals)
if sys.argv[2] == "child" and os.fork() == 0:
    sys.argv[2] = "alone"
open(f"{sys.argv[1]}/ready-{os.getpid()}", "w").close()
while True:
    if signal.sigwait(signals) == signal.SIGUSR1:
        os.execv(sys.executable, [sys.executable, "-S", "-E", "-c", os.environ["PROGRAM"], sys.argv[1], "again"])
    area[8192:8200] = b"changed!"
    open(f"{sys.argv[1]}/ready-{os.getpid()}", "w").close()
"""


class Chained:
    """The program, and ckpt's commands on it as a user gives them."""

    def __init__(self, directory: Path, how: str = "alone") -> None:
        self.directory = directory
        self.chain = directory / "chain"
        self.process = subprocess.Popen(
            [sys.executable, "-S", "-E", "-c", PROGRAM, str(directory), how],
            env={"PROGRAM": PROGRAM, "GLIBC_TUNABLES": "glibc.pthread.rseq=0"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.pid = self.process.pid
        self.settled(self.pid)

    def settled(self, pid: int) -> None:
        """Until the process waits for a signal, having said that it is ready."""
        ready = self.directory / f"ready-{pid}"
        end = time.monotonic() + 60
        while not (ready.exists() and "sigtimedwait" in Path(f"/proc/{pid}/wchan").read_text()):
            if ready.exists() and Path(f"/proc/{pid}/syscall").read_text().startswith("128 "):
                break
            assert time.monotonic() < end, f"{pid} does not wait for a signal, ready: {ready.exists()}"
            time.sleep(0.005)
        ready.unlink()

    def write(self) -> None:
        """Have a page written; it has been, and the process waits again: a late write would be missing in the image."""
        os.kill(self.pid, signal.SIGUSR2)
        self.settled(self.pid)

    def ckpt(self, *arguments: str, **death: object) -> dict[str, object]:
        done = commands().run([*arguments, "--json"], self.directory, **death)
        if death:
            assert done.returncode == -signal.SIGKILL
            return {}
        assert done.returncode == 0, done.stderr
        return dict(json.loads(done.stdout.strip().splitlines()[-1]))

    def pre_dump(self, tracker: str, **death: object) -> str | None:
        """One round; why it was full. Its image is what memory is, and `ckpt show` gives the same reason."""
        made = self.ckpt("pre-dump", "-t", str(self.pid), "-D", str(self.chain), "--tracker", tracker, **death)
        if death:
            return None
        self.compare()
        done = commands().run(["show", "-D", str(self.chain), "--json"], self.directory)
        assert json.loads(done.stdout)["images"][-1]["full_reason"] == made["full_reason"]
        reason = made["full_reason"]
        assert reason is None or isinstance(reason, str)
        return reason

    def compare(self) -> None:
        with chain.view(self.chain) as view:
            assert truth.differences(view, [self.pid]) == []

    def armed_again(self, tracker: str) -> None:
        """After the loss tracking works as before."""
        self.write()
        assert self.pre_dump(tracker) is None
        assert self.pre_dump(tracker) is None


@pytest.fixture
def chained(tmp_path: Path) -> Iterator[Chained]:
    proc.become_subreaper()
    made = Chained(tmp_path)
    yield made
    os.kill(made.pid, signal.SIGKILL)
    made.process.wait()
    proc.become_subreaper(False)


ARMING = [name for name in choice.NEEDS if name != "content-hash"]


@pytest.fixture(params=ARMING)
def tracker(request: pytest.FixtureRequest) -> str:
    if lacks := choice.missing(request.param):
        pytest.skip(f"{request.param}: {lacks[0].evidence}")
    return str(request.param)


def needs(name: str) -> None:
    if lacks := choice.missing(name):
        pytest.skip(lacks[0].evidence)


def test_a_killed_keeper(chained: Chained) -> None:
    needs("write-protect")
    assert chained.pre_dump("write-protect") == "first round"
    (kept,) = keeper.find(chained.pid)
    kept.end()
    chained.write()
    assert "keeper" in str(chained.pre_dump("write-protect"))
    chained.armed_again("write-protect")


@pytest.mark.guest
def test_somebody_clears(chained: Chained, tracker: str) -> None:
    """clear_refs, or a scan that write-protects: the canary page is clean."""
    chained.pre_dump(tracker)
    chained.write()
    if tracker == "soft-dirty":
        clear_soft_dirty(chained.pid)
    else:
        ranges = [[line.start, line.end] for line in truth.mappings(chained.pid) if line.anonymous and not line.special]
        with freeze(chained.pid, timeout=60), pagemap.Pagemap(chained.pid) as pages:
            import numpy as np

            _scan(pages, pagemap.contiguous(np.array(ranges, np.uint64)), arm=True)
    assert "canary" in str(chained.pre_dump(tracker))
    chained.armed_again(tracker)


def test_another_program(chained: Chained, tracker: str) -> None:
    chained.pre_dump(tracker)
    os.kill(chained.pid, signal.SIGUSR1)
    chained.settled(chained.pid)
    assert "exec" in str(chained.pre_dump(tracker))
    chained.armed_again(tracker)


def test_another_task_with_the_pid(chained: Chained, tracker: str) -> None:
    """Made by a restore, which is what chooses pids."""
    chained.pre_dump(tracker)
    other = chained.directory / "other"
    chained.ckpt("dump", "-t", str(chained.pid), "-D", str(other))
    chained.process.wait()
    chained.ckpt("restore", "-D", str(other), "--detach")
    assert chained.pre_dump(tracker) == "the task is not the one of the last round"
    chained.armed_again(tracker)


def test_another_boot(chained: Chained, tracker: str) -> None:
    """A mount namespace in which the host has another boot id."""
    identity = chained.directory / "boot_id"
    identity.write_text("00000000-1111-2222-3333-444444444444\n")
    command = [
        *(sys.executable, "-m", "ckpt", "pre-dump", "--json"),
        *("-t", str(chained.pid), "-D", str(chained.chain), "--tracker", tracker),
    ]
    elsewhere = f"mount --bind {identity} /proc/sys/kernel/random/boot_id && exec {shlex.join(command)}"
    chained.pre_dump(tracker)
    done = subprocess.run(["unshare", "-m", "sh", "-c", elsewhere], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["full_reason"] == "the task is not the one of the last round"
    chained.compare()
    assert chained.pre_dump(tracker) == "the task is not the one of the last round"
    chained.armed_again(tracker)


@pytest.mark.guest
@pytest.mark.parametrize("part", [0.8] if os.environ.get("CKPT_GUEST") else [0.5, 0.8])
def test_ckpt_killed_in_a_round(chained: Chained, tracker: str, part: float) -> None:
    """After its intent, before its commit: the pages of that round must not be missing in the next."""
    chained.pre_dump(tracker)
    report = chained.directory / "calls"
    arguments = ["pre-dump", "-t", str(chained.pid), "-D", str(chained.chain), "--tracker", tracker]
    assert commands().run(arguments, chained.directory, die_at=0, calls=str(report)).returncode == 0
    calls = report.read_text().splitlines()
    first, last = calls.index("ptrace 16902"), len(calls) - 1 - calls[::-1].index("rename")  # SEIZE; the journal's
    chained.write()
    chained.pre_dump(tracker, die_at=first + int((last - 1 - first) * part))
    assert chained.pre_dump(tracker) == "the last round did not finish"
    chained.armed_again(tracker)


def test_the_journal(chained: Chained, tracker: str) -> None:
    chained.pre_dump(tracker)
    journal = chained.chain / "journal"
    data = bytearray(journal.read_bytes())
    data[-3] ^= 1
    journal.write_bytes(data)
    assert chained.pre_dump(tracker) == "the journal is damaged"
    journal.unlink()
    assert chained.pre_dump(tracker) == "there is no tracker state"
    assert chained.pre_dump(tracker) is None
    max(chained.chain.glob("*.ckpt")).unlink()
    assert "newest image" in str(chained.pre_dump(tracker))
    chained.armed_again(tracker)


def test_another_tracker_in_between(chained: Chained, tracker: str) -> None:
    chained.pre_dump(tracker)
    chained.write()
    chained.pre_dump("content-hash")
    assert "content-hash" in str(chained.pre_dump(tracker))
    chained.armed_again(tracker)


@pytest.mark.guest
@pytest.mark.parametrize("tracker", choice.NEEDS)
def test_a_copy_of_the_chain(chained: Chained, tracker: str) -> None:
    """What one of them has seen as written is not written any more when the other looks."""
    needs(tracker)
    chained.pre_dump(tracker)
    original, copy = chained.chain, chained.directory / "copy"
    shutil.copytree(original, copy)
    chained.write()
    assert chained.pre_dump(tracker) is None
    assert chained.pre_dump(tracker) is None
    chained.chain = copy
    reason = chained.pre_dump(tracker)
    chained.armed_again(tracker)
    chained.chain = original
    chained.write()
    again = chained.pre_dump(tracker)
    if tracker != "content-hash":
        assert "another copy of this chain" in str(reason)
        assert ("is gone" if tracker == "write-protect" else "another copy of this chain") in str(again)


@pytest.mark.guest
@pytest.mark.parametrize("tracker", choice.NEEDS)
def test_a_round_of_another_chain_before_the_commit(
    chained: Chained, tracker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first rounds of two chains: what the second clears was copied by the first before it was written."""
    needs(tracker)
    one, two = chained.directory / "one", chained.directory / "two"
    commit = _Round._commit

    def late(*given: Any) -> Any:
        monkeypatch.undo()
        chained.write()
        chained.chain = two
        chained.pre_dump(tracker)
        return commit(*given)

    monkeypatch.setattr(_Round, "_commit", late)
    pre_dump(chained.pid, one, tracker=tracker)
    for chained.chain in (one, two, one, two):
        chained.pre_dump(tracker)


@pytest.mark.guest
@pytest.mark.parametrize("tracker", choice.NEEDS)
def test_two_chains_by_turns(chained: Chained, tracker: str) -> None:
    """Neither takes for clean what the round of the other has cleared."""
    needs(tracker)
    for change in (False, True, False):
        if change:
            chained.write()
        for name in ("one", "two"):
            chained.chain = chained.directory / name
            chained.pre_dump(tracker)


def test_one_task_of_a_tree(tmp_path: Path, tracker: str) -> None:
    """Only the child has executed another program: the reason names it, and the others' pages are still known."""
    chained = Chained(tmp_path, "child")
    (child,) = map(int, Path(f"/proc/{chained.pid}/task/{chained.pid}/children").read_text().split())
    try:
        chained.settled(child)
        arguments = ["pre-dump", "-t", str(chained.pid), "-D", str(chained.chain), "--tracker", tracker]
        chained.ckpt(*arguments)
        assert chained.ckpt(*arguments)["full_reason"] is None
        os.kill(child, signal.SIGUSR1)
        chained.settled(child)
        made = chained.ckpt(*arguments)
        assert str(made["full_reason"]).startswith(f"task {child}: ")
        assert int(str(made["pages_skipped_parent"])) > 256
        with chain.view(chained.chain) as view:
            assert truth.differences(view, [chained.pid, child]) == []
    finally:
        for pid in (child, chained.pid):
            os.kill(pid, signal.SIGKILL)
        chained.process.wait()


def test_pages_merged_between_two_rounds_of_one_process() -> None:
    """KSM loses dirty bits: whether it has merged pages is asked in every round, not once."""
    switch, pause = Path("/sys/kernel/mm/ksm/run"), Path("/sys/kernel/mm/ksm/sleep_millisecs")
    if not os.access(switch, os.W_OK):
        pytest.skip("KSM cannot be switched on here: run as root on a kernel with CONFIG_KSM, and a writable /sys")
    source = """
import mmap, sys
area = mmap.mmap(-1, 256 * mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
area[:] = bytes(range(256)) * mmap.PAGESIZE
print(flush=True)
sys.stdin.readline()
area.madvise(12)  # MADV_MERGEABLE
sys.stdin.read()
"""
    before, slept = switch.read_text(), pause.read_text()
    command = [sys.executable, "-c", source]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdout.readline()
        try:
            assert not ksm.merged_pages(process.pid)
            switch.write_text("1")
            pause.write_text("1")
            print(file=process.stdin, flush=True)
            end = time.monotonic() + 60
            while not ksm.merged_pages(process.pid):
                assert time.monotonic() < end
                time.sleep(0.01)
        finally:
            switch.write_text(before)
            pause.write_text(slept)
            process.stdin.close()


def waits_in(pid: int, call: int) -> None:
    end = time.monotonic() + 60
    while not Path(f"/proc/{pid}/syscall").read_text().startswith(f"{call} "):
        assert time.monotonic() < end, f"{pid} does not wait in system call {call}"
        time.sleep(0.001)


def test_an_address_space_that_others_keep(tmp_path: Path) -> None:
    """The userfaultfd lives on with the memory that the task left; from then on it tells nothing, and is given up."""
    if lacks := choice.missing("write-protect"):
        pytest.skip(lacks[0].evidence)
    if shutil.which("gcc") is None:
        pytest.skip("gcc is missing: install it")
    program = tmp_path / "program"
    source = Path(__file__).parent.parent / "programs" / "leaves_memory.c"
    subprocess.run(["gcc", "-O1", "-o", str(program), str(source)], check=True)
    with subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as process:
        assert process.stdin is not None and process.stdout is not None
        other = 0
        try:
            process.stdout.read(1)
            lost = []
            for order in b"kwewww":
                process.stdin.write(bytes([order]))
                process.stdout.read(1)
                waits_in(process.pid, 0)  # read(2)
                (other,) = map(int, Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split())
                waits_in(other, 34)  # pause(2): on its way there it writes to the memory that both have
                made = pre_dump(process.pid, tmp_path / "chain", tracker="write-protect")
                lost.append(made.statistics.lost)
                with chain.view(tmp_path / "chain") as view:
                    assert truth.differences(view, [process.pid]) == []
            assert [len(words) for words in lost] == [0, 0, 1, 0, 0, 0]
            assert "another address space" in lost[2][0]
        finally:
            process.kill()
            if other:
                os.kill(other, signal.SIGKILL)
