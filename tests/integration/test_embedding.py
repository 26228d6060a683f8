"""ckpt inside a program that has children, threads and signals of its own.

root: off; guest: off (interpreters under emulation take minutes).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType

import pytest

import ckpt
from ckpt.kernel import procfs, reports
from ckpt.kernel.wakeups import Wakeups
from ckpt.trace import executing, freezer
from ckpt.trace.frozen import FrozenThread
from tests.integration.test_restless import WAIT, check_goes_on, eventually, running

pytestmark = pytest.mark.timeout(300)
ROOT = Path(__file__).resolve().parent.parent.parent

COUNT = """
heap = bytearray(os.urandom(1 << 20)) * 4
n = 0
while True:
    n += 1
    heap[n * 4096 % len(heap)] = n & 255
    say(n)
    time.sleep(0.005)
"""

# Waits for all its children, as supervisors do, whatever they are and whoever wants to know.
SUPERVISORS = {
    "handler": """
def reap(*_):
    try:
        while (taken := os.waitpid(-1, os.WNOHANG))[0]:
            stolen.append(taken)
    except ChildProcessError:
        pass
signal.signal(signal.SIGCHLD, reap)
""",
    "thread": """
def reap():
    while True:
        try:
            stolen.append(os.waitpid(-1, 0))
        except ChildProcessError:
            time.sleep(0.001)
threading.Thread(target=reap, daemon=True).start()
""",
    "ignored": "signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n",
}
ROUNDS = """
import os, signal, sys, threading, time
import ckpt
stolen = []
pid, chain = int(sys.argv[1]), sys.argv[2]
exec(sys.argv[3])
made = [ckpt.pre_dump(pid, chain) for _ in range(3)]
made += [ckpt.dump(pid, chain, leave="running", snapshot=how) for how in ("fork", "frozen")]
reasons = [one.header.full_reason for one in made]
assert reasons == ["first round", *[None] * 4], reasons
assert ckpt.verify(chain).ok
"""


@pytest.mark.parametrize("supervisor", SUPERVISORS)
def test_a_supervisor(tmp_path: Path, supervisor: str) -> None:
    with running(COUNT, tmp_path / "n") as target:
        chain = tmp_path / "chain"
        done = subprocess.run(
            [sys.executable, "-c", ROUNDS, str(target.pid), str(chain), SUPERVISORS[supervisor]],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=WAIT, cwd=ROOT,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        check_goes_on(target, tmp_path / "n")


def test_several_at_a_time(tmp_path: Path) -> None:
    """Each thread traces a tree of its own, and knows nothing of the others'."""
    failures: list[BaseException] = []

    def work(pid: int, chain: Path) -> None:
        try:
            for how in ("fork", "frozen", "fork"):
                ckpt.pre_dump(pid, chain)
                ckpt.dump(pid, chain, leave="running", snapshot=how)
            assert ckpt.verify(chain).ok
        except BaseException as error:
            failures.append(error)

    with ExitStack() as stack:
        places = [tmp_path / str(number) for number in range(3)]
        targets = [stack.enter_context(running(COUNT, place)) for place in places]
        threads = [
            threading.Thread(target=work, args=(target.pid, place.with_suffix(".chain")))
            for target, place in zip(targets, places, strict=True)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures, failures
        for target, place in zip(targets, places, strict=True):
            check_goes_on(target, place)


POLLER = """
import select
for _ in range(4):
    threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
epoll = select.epoll()
while True:
    # Not Python's own, which hides an EINTR.
    if libc.epoll_wait(epoll.fileno(), ctypes.create_string_buffer(64), 1, 20) < 0:
        say(f"error {ctypes.get_errno()}")
        sys.exit(1)
    say(time.monotonic())
"""


SIGNALLED = """
signals = 0
def told(*_):
    global signals
    signals += 1
signal.signal(signal.SIGUSR1, told)
while True:
    say(f"{signals} {time.monotonic()}")
    time.sleep(0.005)
"""


@contextmanager
def interrupted_at(monkeypatch: pytest.MonkeyPatch, nth: int, pid: int) -> Iterator[None]:
    """Ctrl-C when the freezer has seen `nth` threads of the task stop."""
    make_restartable, seen = freezer.waits.make_restartable, 0

    def then(tid: int) -> bytes:
        nonlocal seen
        if tid in procfs.threads(pid):
            seen += 1
            if seen == nth:
                raise KeyboardInterrupt
        return make_restartable(tid)

    with monkeypatch.context() as patch:
        patch.setattr(freezer.waits, "make_restartable", then)
        with pytest.raises(KeyboardInterrupt):
            yield


@pytest.mark.parametrize("nth", [1, 3])
def test_ctrl_c_while_it_freezes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nth: int) -> None:
    """The threads that were asked to stop, and nobody had waited for, go on as if nothing had been."""
    with running(POLLER, tmp_path / "n") as target:
        with interrupted_at(monkeypatch, nth, target.pid):
            ckpt.pre_dump(target.pid, tmp_path / "chain")
        for tid in procfs.threads(target.pid):
            assert procfs.status(target.pid, tid)["TracerPid"] == "0"
        check_goes_on(target, tmp_path / "n")


def test_a_time_limit_of_the_program_comes_in_the_thaw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What its handlers raise waits until every thread goes on; none of the signals is lost."""
    release, heard = freezer.release, []

    def late(number: int, frame: FrameType | None) -> None:
        raise TimeoutError

    def then(thread: FrozenThread, wakeups: Wakeups) -> None:
        if thread.tid == target.pid and thread.stopped:
            signal.raise_signal(signal.SIGALRM)
            signal.raise_signal(signal.SIGUSR1)
        release(thread, wakeups)

    handlers = {signal.SIGALRM: late, signal.SIGUSR1: lambda number, _: heard.append(number)}
    old = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        with running(POLLER, tmp_path / "n") as target:
            with monkeypatch.context() as patch, pytest.raises(TimeoutError):
                patch.setattr(freezer, "release", then)
                ckpt.pre_dump(target.pid, tmp_path / "chain")
            for tid in procfs.threads(target.pid):
                assert procfs.status(target.pid, tid)["TracerPid"] == "0"
            check_goes_on(target, tmp_path / "n")
        assert heard == [signal.SIGUSR1]
        assert {number: signal.getsignal(number) for number in handlers} == handlers
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def test_a_stop_is_not_taken_for_an_end(tmp_path: Path) -> None:
    """Of the threads that stand already while another is waited for; one that has ended is let go of."""
    with running(POLLER, tmp_path / "n") as target:
        tid = procfs.threads(target.pid)[-1]
        freezer.ptrace.seize(tid, 0)
        freezer.ptrace.interrupt(tid)
        while procfs.state(target.pid, tid) != "t":
            pass
        assert executing.reap([tid]) == []
        assert reports.poll(tid)[0] == tid
        target.kill()
        while procfs.state(target.pid, tid) != "Z":
            pass
        assert executing.reap([tid]) == [tid]


def test_a_signal_that_came_first_is_not_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It stops the thread instead of what ckpt asked for, and Ctrl-C comes before anybody has seen that."""
    with running(SIGNALLED, tmp_path / "n") as target:
        seize = freezer.ptrace.seize

        def then(tid: int, options: int) -> None:
            seize(tid, options)
            if tid == target.pid:
                os.kill(tid, signal.SIGUSR1)
                while procfs.state(tid) != "t":
                    pass
                raise KeyboardInterrupt

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(freezer.ptrace, "seize", then)
            ckpt.pre_dump(target.pid, tmp_path / "chain")
        check_goes_on(target, tmp_path / "n")
        # It may have stood where it was about to tell what it had counted before.
        eventually(lambda: not (tmp_path / "n").read_text().startswith("0 "), target)
        assert (tmp_path / "n").read_text().startswith("1 ")
