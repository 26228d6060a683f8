"""ckpt killed in the middle of its verbs; many more deaths are in scripts/kill."""

from __future__ import annotations

import itertools
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ckpt.engine import rehearsal
from ckpt.engine.spaces import Tracking
from ckpt.kernel import uapi
from ckpt.tracker import choice
from tests.support import harness, killing, proc

pytestmark = [
    pytest.mark.root,
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: restores under the old pids"),
]

PIDFD_GETFD = "_syscall c_long(438)"


@pytest.fixture(autouse=True)
def _reaper() -> Iterator[None]:
    proc.become_subreaper()
    yield
    proc.become_subreaper(False)


def named(name: str) -> harness.Target:
    return next(target for target in harness.all_targets() if target.name == name)


def test_at_random_instants() -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    with killing.victim(named("threads/watchful")) as killed:
        killing.random_deaths(killed, 10, seed, print)


def test_around_a_call_that_opens_a_descriptor() -> None:
    """The thread closes what userfaultfd(2) gave it, with or without ckpt."""
    with killing.victim(named("threads/watchful"), "write-protect") as killed:
        calls = killed.calls("first")
        taken = max(number for number, name in enumerate(calls, 1) if name == PIDFD_GETFD)
        for at in range(taken - 3, taken + 5):
            killed.once("first", die_at=at)


@pytest.mark.parametrize(("name", "chains"), [("signals/sigsuspend", 2), ("threads/blocked_futex", 5)])
def test_in_a_chain_of_calls(name: str, chains: int) -> None:
    """Before the thread is made ready for a chain of frames, is let go into it, and while it goes through it."""
    chain = (f"ptrace {uapi.PTRACE_SETREGSET!r}", f"ptrace {uapi.PTRACE_CONT!r}")
    with killing.victim(named(name)) as killed:
        calls = killed.calls("leave-running")
        starts = [number for number, pair in enumerate(itertools.pairwise(calls), 1) if pair == chain]
        for start in starts[:chains]:
            for at in range(start - 3, start + 4):
                killed.once("leave-running", die_at=at)
        assert starts


def test_a_filter_that_kills_while_the_memory_is_forked() -> None:
    """On its way back the task waits for the helper, unless its seccomp filters would kill it for that."""
    with killing.victim(named("ids/seccomp_killing"), extra=["--snapshot", "fork"]) as killed:
        calls = killed.calls("leave-running")
        options = f"ptrace {uapi.PTRACE_SETOPTIONS!r}"
        copied = max(number for number, call in enumerate(calls, 1) if call == options)
        killed.prepare("leave-running")
        assert killed.dying("leave-running", die_at=copied) == -signal.SIGKILL
        end = time.monotonic() + 20
        while killing.traced_or_stopped(killed.run.pid) and time.monotonic() < end:
            time.sleep(0.01)
        assert killed.alive()


@pytest.mark.parametrize("verb", ["leave-running", "pre-dump", "dump", "restore", "merge"])
def test_before_chosen_calls(verb: str) -> None:
    """Some calls of every part of a verb; all of them: scripts/kill --every."""
    with killing.victim(named("threads/watchful")) as killed:
        calls = killed.calls(verb)
        rng = random.Random(verb)
        for part in range(4):
            first, end = len(calls) * part // 4, len(calls) * (part + 1) // 4
            killed.once(verb, die_at=1 + rng.randrange(first, end))


@pytest.mark.parametrize(
    "name",
    [
        "ids/seccomp",
        "other/rseq",
        "pipes/epoll_blocked",
        "processes/stopped_child",
        "signals/alternate_stack",
        "signals/sigsuspend",
        "sockets/tcp_loopback",
        "sockets/unix_stream",
        "threads/blocked_futex",
        "timers/posix",
    ],
)
def test_states(name: str) -> None:
    """Threads that wait, stand on another stack, are filtered or stopped: a dump that is cut short leaves them so."""
    try:
        with killing.victim(named(name)) as killed:
            calls = killed.calls("leave-running")
            frozen = [number for number, call in enumerate(calls, 1) if call.startswith("ptrace")]
            rng = random.Random(name)
            for at in sorted(rng.sample(frozen, 3)):
                killed.once("leave-running", die_at=at)
    except harness.TargetSkipped as skipped:
        pytest.skip(str(skipped))


def test_in_the_rehearsal() -> None:
    """Its process does not outlive ckpt, however that dies."""
    source = """
import os, signal
from ckpt.engine import rehearsal
from ckpt.trace.freezer import freeze
with rehearsal._extra() as pid, freeze(pid):
    print(pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", source], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL
    pid = int(done.stdout)
    end = time.monotonic() + 20
    while Path(f"/proc/{pid}/exe").exists():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_rehearsal_goes_all_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """What fails in it is silent, and would make it worthless: here it must not."""
    reached: list[Tracking] = []
    monkeypatch.setattr(rehearsal, "Tracking", lambda *given: reached.append(tracking := Tracking(*given)) or tracking)
    for name in [name for name in choice.NEEDS if not choice.missing(name)]:
        reached.clear()
        rehearsal.rehearse(name, dump=True)
        assert [(len(made.new_states), made.lost) for made in reached] == [(1, [])] * rehearsal._TIMES


def test_while_a_page_is_mapped_in_the_target() -> None:
    """The look for MCL_FUTURE maps one: the thread unmaps it, with or without ckpt."""
    made = [f"ptrace {uapi.PTRACE_SETREGSET!r}", *["ptrace 24", "waitpid"] * 2, f"ptrace {uapi.PTRACE_GETREGSET!r}"]
    shape = ["open", "pwrite", *made, "open", *made]  # VmLck, the frame that unmaps, mmap, VmLck, munmap
    with killing.victim(named("signals/sigsuspend")) as killed:
        calls = killed.calls("leave-running")
        starts = [at for at in range(len(calls)) if calls[at : at + len(shape)] == shape]
        assert starts
        for start in starts:
            for at in range(start + 3, start + len(shape) + 1, 2):
                killed.once("leave-running", die_at=at)
