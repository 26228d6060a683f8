"""Task state collected from a live target, restored into a skeleton, collected again. Needs root for ids and pids."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from ckpt.errors import RestoreError
from ckpt.kernel import taskinfo, uapi
from ckpt.kernel.wakeups import Wakeups
from ckpt.records.state import ResourceLimit, SigInfo
from ckpt.state import attributes, limits, prctl, task_state, threads
from ckpt.trace.freezer import freeze
from ckpt.trace.sigframe import ORIG_RAX, unpack
from ckpt.trace.skeleton import reap
from ckpt.trace.spawn import spawn_skeleton
from tests.support.state_rounds import STUB, Built, collect, collect_from, in_call, round_trip

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="chooses ids and pids")]


def test_signals(tmp_path):
    got = round_trip(tmp_path, "signals")
    actions = {action.signal: action for action in got.task.sigactions}
    assert {1, 5, 10, 12, 17} <= set(actions)
    assert (actions[1].handler, actions[5].handler) == (1, 1)
    assert actions[10].handler == actions[12].handler > 1
    assert actions[12].flags & 0x10000000 and not actions[10].flags & 0x10000000
    assert actions[17].flags & 2  # SA_NOCLDWAIT, invisible in /proc
    queue = [(i.info[0], int.from_bytes(i.info[24:32], "little")) for i in got.task.pending]
    assert [number for number, _ in queue] == [10, 34, 34, 34]
    assert [value for number, value in queue if number == 34] == [7, 8, 9]
    assert [i.info[0] for i in got.threads[0].pending] == [35]
    assert got.threads[0].sigmask == 1 << 9 | 1 << 33 | 1 << 34
    assert got.threads[0].altstack.size == 65536


def test_timers(tmp_path):
    got = round_trip(tmp_path, "timers")
    assert [(t.which, t.interval_us) for t in got.task.itimers] == [(0, 77_000_000), (2, 0)]
    timers = {t.timer_id: t for t in got.task.posix_timers}
    assert set(timers) == {1, 2, 3, 4}
    assert timers[2].value_ns == 0
    assert timers[1].interval_ns == 3_000_000_005
    assert (timers[3].sigval, timers[3].notify) == (0xABC3, 1)
    assert (timers[4].notify, timers[4].notify_tid) == (4, got.task.pid)


def test_scheduling_and_limits(tmp_path):
    got = round_trip(tmp_path, "limits", "sched")
    sched = got.threads[0].scheduling
    assert (sched.policy, sched.nice, sched.timerslack_ns) == (3, 7, 123456)
    assert sched.ioprio == 2 << 13 | 6
    assert sched.affinity in (b"", (1).to_bytes(8, "little"))
    assert got.task.rlimits[7] == ResourceLimit(7, 150, 200)
    assert got.task.rlimits[8] == ResourceLimit(8, 4096, 65536)


def test_real_time_policy(tmp_path):
    scheduling = round_trip(tmp_path, "realtime").threads[0].scheduling
    assert (scheduling.policy, scheduling.priority, scheduling.flags) == (2, 3, 1)


def test_directories_and_attributes(tmp_path):
    got = round_trip(tmp_path, "fs", "attributes", "prctls", "mdwe")
    assert got.task.fs is not None
    assert got.task.fs.cwd == str(tmp_path / "odd.dir")
    assert got.task.fs.umask == 0o057
    held = got.task.attributes
    assert (held.personality, held.oom_score_adj, held.coredump_filter) == (0x0040000, 321, 0x71)
    assert held.child_subreaper
    assert held.mdwe in (0, 1)
    assert got.threads[0].comm.encode("utf-8", "surrogateescape") == b"odd \xff name"
    assert got.threads[0].pdeathsig == 12
    assert got.threads[0].prctl.mce_kill == 1


def test_chroot(tmp_path):
    fs = round_trip(tmp_path, "chroot").task.fs
    assert fs is not None
    assert (fs.cwd, fs.root) == ("/proc", str(tmp_path / "odd.dir"))


def test_time_stamp_counter_mode(tmp_path):
    assert round_trip(tmp_path, "tsc").threads[0].prctl.tsc_mode == 2


def test_credentials(tmp_path):
    tmp_path.chmod(0o777)
    got = round_trip(tmp_path, "ids").threads[0].credentials
    assert got.uids == (201, 202, 203, 203)
    assert got.gids[:3] == (101, 102, 103)
    assert got.groups == (7, 8, 9)
    assert (got.cap_eff, got.cap_prm, got.cap_inh, got.cap_amb) == (
        1 << 5,
        1 | 1 << 5 | 1 << 10,
        1 << 10,
        1 << 10,
    )
    assert not got.cap_bnd >> 22 & 1
    assert got.securebits == 5
    assert got.no_new_privs


def test_a_plain_user(tmp_path):
    tmp_path.chmod(0o777)
    got = round_trip(tmp_path, "user")
    assert got.threads[0].credentials.uids == (12345,) * 4
    assert got.threads[0].credentials.cap_prm == 0


def test_seccomp(tmp_path):
    tmp_path.chmod(0o777)
    got = round_trip(tmp_path, "seccomp", "user").threads[0].seccomp
    assert got is not None
    assert got.mode == 2
    assert got.flags == (0, 2)
    assert [len(program) for program in got.filters] == [32, 32]
    assert (got.filters[0][28:], got.filters[1][28:]) == (b"\x00\x00\xff\x7f",) * 2
    assert [program[12] | program[13] << 8 for program in got.filters] == [999, 998]


def test_strict_seccomp(tmp_path):
    got = round_trip(tmp_path, "strict", call=0).threads[0].seccomp
    assert got is not None
    assert got.mode == 1


def test_a_thread_with_ids_of_its_own(tmp_path):
    first, second = round_trip(tmp_path, "own_ids").threads
    assert first.credentials.uids == (0, 0, 0, 0)
    assert second.credentials.uids == (33, 33, 33, 33)
    assert (first.credentials.no_new_privs, second.credentials.no_new_privs) == (False, True)
    assert second.credentials.cap_eff == 0


def test_a_pending_stop_signal_stops_the_restored_task():
    skeleton = spawn_skeleton(0, STUB)
    try:
        skeleton.step_calls()
        got = collect(Built([skeleton]))
        stop = SigInfo(signal.SIGSTOP.to_bytes(4, "little") + bytes(124))
        record = replace(got.task, pending=(stop,))
        task_state.late(skeleton, [skeleton], record, [()])
        threads.finish_threads(record, [got.threads[0]])
        skeleton.let_go()
        _, status = os.waitpid(skeleton.pid, os.WUNTRACED | 0x40000000)
        assert os.WIFSTOPPED(status)
        assert os.WSTOPSIG(status) == signal.SIGSTOP
    finally:
        os.kill(skeleton.pid, signal.SIGKILL)
        os.waitpid(skeleton.pid, 0x40000000)


def test_threads(tmp_path):
    got = round_trip(tmp_path, "more_threads", "timers")
    assert [t.comm for t in got.threads[1:]] == ["worker 0", "worker 1"]
    assert [t.sigmask for t in got.threads] == [0, 1 << 11, 1 << 9]
    assert all(t.rseq is None or t.rseq.address for t in got.threads)
    assert len({t.clear_child_tid for t in got.threads}) == 3


def test_a_limit_out_of_reach_is_refused(tmp_path):
    skeleton = spawn_skeleton(0, STUB)
    try:
        wanted = ResourceLimit(1, 1 << 40, 1 << 41)
        limits.restore_limits(skeleton, [ResourceLimit(1, 1 << 20, 1 << 20)])
        try:
            limits.raise_limits(skeleton, [wanted])
        except RestoreError as error:
            assert "RLIMIT_FSIZE" in error.message
            assert error.hint
        else:  # this root has CAP_SYS_RESOURCE
            assert limits.collect_limits(skeleton.pid)[1] == ResourceLimit(1, 1 << 41, 1 << 41)
    finally:
        skeleton.kill()
        reap([skeleton])


@pytest.mark.parametrize("value", [0, 1, 3])
def test_huge_pages_disabled(value):
    skeleton = spawn_skeleton(0, STUB)
    try:
        try:
            prctl.restore_thp_disable(skeleton, value)
        except RestoreError:
            assert value == 3  # before Linux 6.18
        else:
            assert prctl.collect_thp_disable(skeleton) == value
    finally:
        skeleton.kill()
        reap([skeleton])


def test_a_vanished_cgroup_is_left_alone():
    skeleton = spawn_skeleton(0, STUB)
    try:
        own = taskinfo.cgroups(skeleton.pid)
        held = attributes.collect_attributes(skeleton)
        attributes.restore_attributes_early(skeleton, replace(held, cgroups=(*own, "0::/no/such/group")))
        assert taskinfo.cgroups(skeleton.pid) == own
    finally:
        skeleton.kill()
        reap([skeleton])


SLEEPER = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
spec = (ctypes.c_long * 2)(int(sys.argv[1]), 0)
rest = (ctypes.c_long * 2)()
result = libc.nanosleep(spec, rest)
open(sys.argv[2], "w").write(f"{result} {ctypes.get_errno()}")
"""


@contextmanager
def sleeper(seconds: int, path: Path) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", SLEEPER, str(seconds), str(path)], stdin=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while not in_call(process.pid, uapi.SYS_clock_nanosleep):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        yield process
    finally:
        process.kill()
        process.wait()


def test_a_sleep_that_was_frozen_before_is_still_a_sleep(tmp_path):
    with sleeper(1000, tmp_path / "out") as process:
        for _ in range(3):
            got = collect_from(process.pid)
            assert unpack(got.threads[0].registers.gpr)[ORIG_RAX] == uapi.SYS_clock_nanosleep


def test_what_is_left_of_a_sleep_is_measured(tmp_path):
    with sleeper(100_000, tmp_path / "out") as process:
        seen = []
        for _ in range(2):
            with freeze(process.pid, timeout=60) as tree:
                seen.append(threads.glance(process.pid, tree.wakeups, tree.frozen_for_ns).wait_left_ns)
        assert 90_000 * 10**9 < seen[1] < seen[0] < 100_000 * 10**9


def test_only_a_timer_that_wakes_the_thread_tells_of_its_wait():
    """Others are cancelled while it is current: its own itimer here, those of interrupts at any moment."""
    wakeups = Wakeups()
    wakeups.start()
    try:
        signal.setitimer(signal.ITIMER_REAL, 500)
        signal.setitimer(signal.ITIMER_REAL, 0)
        assert wakeups.expiry(threading.get_native_id()) is None
    finally:
        wakeups.close()


def test_a_pending_signal_is_delivered_after_the_restore(tmp_path):
    """A skeleton with a pending, unblocked, default signal dies of it as soon as it is let go."""
    skeleton = spawn_skeleton(0, STUB)
    try:
        skeleton.step_calls()
        task = Built([skeleton])
        got = collect(task)
        info = signal.SIGTERM.to_bytes(4, "little") + bytes(124)
        record = replace(got.task, pending=(SigInfo(info),))
        task_state.late(skeleton, [skeleton], record, [()])
        threads.finish_threads(record, [replace(got.threads[0], sigmask=0)])
        skeleton.let_go()
        _, status = os.waitpid(skeleton.pid, 0x40000000)
        assert os.WTERMSIG(status) == signal.SIGTERM
    finally:
        skeleton.alive = False
