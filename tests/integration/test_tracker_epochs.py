"""A tracking epoch that was lost is always noticed: keepers, foreign clears, exec, failed rounds."""

from __future__ import annotations

import os
import resource
import select
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tracker_oracle import Mm, Rounds, Target, running

from ckpt import pre_dump
from ckpt.errors import KernelError, NoSuchTask
from ckpt.kernel import keeper, pagemap, procfs
from ckpt.kernel.descriptors import pidfd_open
from ckpt.trace.freezer import freeze
from ckpt.tracker import choice
from ckpt.tracker.soft_dirty import SoftDirty, new_witness
from ckpt.tracker.state import unpack
from ckpt.tracker.write_protect import HeldDescriptors, WriteProtect, _scan, release

pytestmark = [pytest.mark.root, pytest.mark.guest]

PAGE = 4096
ALL = set(range(16))

needs_wp = pytest.mark.skipif(bool(choice.missing("write-protect")), reason="no write-protect tracking here")
needs_sd = pytest.mark.skipif(bool(choice.missing("soft-dirty")), reason="no soft-dirty here")


@pytest.fixture
def target() -> Iterator[Target]:
    with running() as made:
        made.do("area()")
        yield made


def keeper_of(state: bytes | None) -> keeper.Keeper:
    fields, reason = unpack("write-protect", state)
    assert reason is None
    return keeper.Keeper(*fields["keeper"])


def ended(pid: int) -> None:
    """Wait until a process that is no child of ours has ended."""
    try:
        pidfd = pidfd_open(pid)
    except KernelError as error:
        assert error.errno == 3
        return
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    assert poll.poll(60_000)
    os.close(pidfd)


def armed_again(rounds: Rounds) -> None:
    """After a full round tracking works as before."""
    rounds.target.do("put(A + 2 * PAGE, 200)")
    rounds.round()
    assert rounds.reason is None
    assert rounds.clean_in(rounds.target.a, 16) == ALL - {2}


@needs_wp
def test_keeper_is_small_and_ends_with_the_target(target: Target) -> None:
    rounds = Rounds(target, "write-protect")
    rounds.round()
    kept = keeper_of(rounds.state)
    while procfs.stat(kept.pid).comm != keeper.NAME:
        time.sleep(0.001)  # the last thing it does before it waits; its number is known earlier
    assert sorted(os.listdir(f"/proc/{kept.pid}/fd")) == ["0", "1", "2", "3", "4"]
    assert procfs.link(f"/proc/{kept.pid}/cwd") == "/"
    assert procfs.stat(kept.pid).sid != os.getsid(0)
    assert list(keeper.find(target.pid)) == [kept]
    rounds.round()
    assert keeper_of(rounds.state) == kept
    target.end()
    ended(kept.pid)


def test_a_limit_on_descriptors_leaks_none(target: Target) -> None:
    """A userfaultfd that stays open in ckpt would keep everybody from tracking the target."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    before = sorted(os.listdir("/proc/self/fd"))
    failed = 0
    for limit in range(len(before), len(before) + 16):
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
        try:
            keeper.start_witness(target.pid).end()
        except KernelError:
            failed += 1
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert sorted(os.listdir("/proc/self/fd")) == before
    assert 5 < failed < 16


def test_the_first_rounds_of_two_chains_overlap(target: Target) -> None:
    """The second clears what the first has armed, and may do so before that is committed: it must find the witness."""
    trackers = [SoftDirty(fresh=new_witness(target.pid)) for _ in range(2)]
    for tracker in trackers:
        tracker._attend(target.pid, {}, arm=True)
    for tracker in reversed(trackers):
        tracker.settle()
    (left,) = keeper.find(target.pid)
    assert left == trackers[1]._witness
    for tracker in trackers:
        kept = tracker._witness
        assert kept is not None
        again = SoftDirty()
        fields = {"witness": [kept.pid, kept.start_time], "epoch": tracker._epoch, "boot_id": procfs.boot_id()}
        again._attend(target.pid, fields, arm=False)
        assert (again._lost is None) == (tracker is trackers[1])


@needs_wp
def test_an_interrupt_while_a_keeper_is_started(
    target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = keeper.start

    def interrupted(uffd: int, pid: int) -> keeper.Keeper:
        made = start(uffd, pid)
        signal.raise_signal(signal.SIGINT)
        return made

    monkeypatch.setattr(keeper, "start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pre_dump(target.pid, tmp_path / "chain", tracker="write-protect")
    assert list(keeper.find(target.pid)) == []


@needs_wp
def test_keeper_killed(target: Target) -> None:
    rounds = Rounds(target, "write-protect")
    rounds.round()
    kept = keeper_of(rounds.state)
    os.kill(kept.pid, signal.SIGKILL)
    ended(kept.pid)
    target.do("put(A, 99)")
    rounds.round()
    assert rounds.reason is not None and "keeper" in rounds.reason
    armed_again(rounds)


@needs_wp
def test_state_lost(target: Target) -> None:
    """A round that never committed leaves a keeper nobody knows; the memory is registered with it."""
    rounds = Rounds(target, "write-protect")
    rounds.round()
    lost = keeper_of(rounds.state)
    rounds.state = None
    rounds.round()
    assert rounds.reason is not None
    assert list(keeper.find(target.pid)) == [keeper_of(rounds.state)] != [lost]
    armed_again(rounds)


@needs_wp
def test_discard_and_release(target: Target) -> None:
    tracker = WriteProtect()
    with freeze(target.pid, timeout=60) as tree:
        state = tracker.collect(Mm(tree.tasks[target.pid]), None)[2]
    tracker.settle()
    tracker.discard("the disk is full")
    tracker.discard("twice")
    assert not keeper_of(state).alive()
    rounds = Rounds(target, "write-protect")
    rounds.round()
    armed_again(rounds)
    kept = keeper_of(rounds.state)
    release(b"rubbish")
    release(None)
    assert kept.alive()
    release(rounds.state)
    release(rounds.state)
    assert not kept.alive()


@needs_wp
def test_another_process_with_the_keepers_pid_is_left_alone(target: Target) -> None:
    keeper.Keeper(target.pid, procfs.stat(target.pid).start_time + 1).end()
    keeper.Keeper(target.pid, procfs.stat(target.pid).start_time).end()  # no userfaultfd there
    assert target.do("pass") == "ok"
    assert target.do("os.dup2(0, 3)") == "ok"  # what stands at the keeper's number is no userfaultfd
    with pytest.raises(NoSuchTask):
        keeper.Keeper(target.pid, procfs.stat(target.pid).start_time).take()


@needs_wp
def test_foreign_write_protection(target: Target) -> None:
    """Somebody else's scan takes the written bits away: the canary is clean."""
    rounds = Rounds(target, "write-protect")
    rounds.round()
    target.do("put(A, 99)")
    with freeze(target.pid, timeout=60) as tree, pagemap.Pagemap(target.pid) as pages:
        _scan(pages, pagemap.contiguous(Mm(tree.tasks[target.pid]).ranges), arm=True)
    rounds.round()
    assert rounds.reason is not None and "canary" in rounds.reason
    armed_again(rounds)


@needs_sd
def test_foreign_clear_refs(target: Target) -> None:
    rounds = Rounds(target, "soft-dirty")
    rounds.round()
    target.do("put(A, 99)")
    pagemap.clear_soft_dirty(target.pid)
    rounds.round()
    assert rounds.reason is not None and "canary" in rounds.reason
    armed_again(rounds)


@needs_wp
def test_the_targets_own_userfaultfd(target: Target) -> None:
    """What the target has registered itself is never vouched for nor scanned; the rest is tracked."""
    assert (
        target.do(
            "import fcntl, struct; u = call('syscall', 323, 0o2000000 | 0o4000 | 1);"
            "fcntl.ioctl(u, 0xC018AA3F, struct.pack('QQQ', 0xAA, 1 << 15 | 1 << 13, 0));"
            "area(B); fcntl.ioctl(u, 0xC020AA00, struct.pack('QQQQ', B, 16 * PAGE, 2, 0))"
        )
        == "ok"
    )
    rounds = Rounds(target, "write-protect")
    rounds.round()
    for _ in range(3):
        rounds.round()
        assert rounds.reason is None
        assert rounds.clean_in(target.a, 16) == ALL
        assert rounds.clean_in(target.b, 16) == set()
    armed_again(rounds)


@pytest.mark.parametrize(
    "tracker", [pytest.param("write-protect", marks=needs_wp), pytest.param("soft-dirty", marks=needs_sd)]
)
def test_exec(tracker: str, target: Target) -> None:
    rounds = Rounds(target, tracker)
    rounds.round()
    assert target.process.stdin and target.process.stdout
    path = os.path.join(os.path.dirname(__file__), "..", "targets", "memory_ops.py")
    target.process.stdin.write(f"os.execv({sys.executable!r}, [{sys.executable!r}, '-S', '-E', {path!r}])\n")
    target.process.stdin.flush()
    target.a, target.b, target.c = map(int, target.process.stdout.readline().split())
    target.do("area()")
    rounds.round()
    assert rounds.reason is not None or not rounds.clean
    armed_again(rounds)


@needs_wp
def test_held_in_process(target: Target) -> None:
    """A pre-copy loop keeps the descriptor itself, and leaves a keeper at its end."""
    held = HeldDescriptors()
    state: bytes | None = None
    for number in range(3):
        with freeze(target.pid, timeout=60) as tree:
            clean, reason, state = WriteProtect(held).collect(Mm(tree.tasks[target.pid]), state)
        assert (clean is None) == (number == 0) == (reason is not None)
    assert list(keeper.find(target.pid)) == []
    rounds = Rounds(target, "write-protect")
    assert state is not None
    rounds.state = held.settle(state)
    held.close()
    rounds.round()
    assert rounds.reason is None
    assert list(keeper.find(target.pid)) == [keeper_of(rounds.state)]
    with freeze(target.pid, timeout=60) as tree:  # and back into a process
        clean, reason, state = WriteProtect(held).collect(Mm(tree.tasks[target.pid]), rounds.state)
    assert reason is None
    assert list(keeper.find(target.pid)) == []
    held.close()
    rounds.state = state
    rounds.round()
    assert rounds.reason is not None and "let it go" in rounds.reason


@pytest.mark.parametrize(
    "tracker", [pytest.param("write-protect", marks=needs_wp), pytest.param("soft-dirty", marks=needs_sd)]
)
def test_damaged_state(tracker: str, target: Target) -> None:
    rounds = Rounds(target, tracker)
    rounds.round()
    assert rounds.state is not None
    rounds.state = rounds.state[:-3]
    rounds.round()
    assert rounds.reason is not None and "damaged" in rounds.reason
    armed_again(rounds)
