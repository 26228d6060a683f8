"""The plan of a tree, carried out in a model of the kernel's process rules."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from ckpt.engine.plan import plan, plan_refusals
from ckpt.engine.steps import OUTSIDE, Create, EndHelper
from ckpt.errors import RestoreError
from ckpt.kernel import uapi
from ckpt.records.state import Attributes
from ckpt.records.task import TaskRecord
from tests.support.process_model import Model, NotAllowed, Proc, carry_out

ROOT = 100
FOREIGN = 5


def record(pid: int, ppid: int, sid: int, pgid: int, **changes: object) -> TaskRecord:
    task = TaskRecord(
        pid=pid, ppid=ppid, pgid=pgid, sid=sid, tids=(pid,), state="alive", exit_code=0, exit_signal=17,
        stop_signal=0, mm_id=pid, table_id=pid, sighand_id=pid, fs_id=pid, fs=None, sigactions=(), pending=(),
        itimers=(), posix_timers=(), rlimits=(), attributes=Attributes(0, 0, False, 0, (), 0, 0, 0),
    )  # fmt: skip
    return replace(task, **changes)  # type: ignore[arg-type]


def built(*tasks: TaskRecord, shell_job: bool = False, revive: bool = False, caller: int = 0) -> dict[int, Proc]:
    return carry_out(plan(tasks, ROOT, shell_job=shell_job, revive=revive, caller=caller)).procs


def check(tasks: list[TaskRecord], procs: dict[int, Proc], outside: dict[int, int]) -> None:
    """The model holds exactly the recorded tasks."""
    assert set(procs) == {task.pid for task in tasks}
    for task in tasks:
        proc = procs[task.pid]
        assert proc.ppid == outside.get(task.ppid, task.ppid), task
        assert proc.sid == outside.get(task.sid, task.sid), task
        assert proc.pgid == outside.get(task.pgid, task.pgid), task
        assert proc.zombie == (task.state == "zombie"), task
        assert proc.status == task.exit_code, task


def test_root_alone_joins_our_session_in_a_group_of_its_own() -> None:
    root = built(record(ROOT, 0, FOREIGN, FOREIGN))[ROOT]
    assert (root.ppid, root.sid, root.pgid) == (OUTSIDE, OUTSIDE, ROOT)


def test_the_group_that_ckpt_itself_is_in_stays() -> None:
    tasks = [record(ROOT, 0, FOREIGN, 7), record(101, ROOT, FOREIGN, 7), record(102, ROOT, FOREIGN, 102)]
    check(tasks, built(*tasks, caller=7), {FOREIGN: OUTSIDE, 7: OUTSIDE})
    check(tasks, built(*tasks, caller=8), {FOREIGN: OUTSIDE, 7: ROOT})


def test_a_daemon_has_its_session_again_whose_leader_has_ended() -> None:
    tasks = [
        record(ROOT, 0, FOREIGN, FOREIGN), record(101, ROOT, FOREIGN, FOREIGN), record(102, ROOT, 102, 102),
        record(103, ROOT, FOREIGN, 103), record(104, 102, FOREIGN, 999), record(105, ROOT, FOREIGN, 999),
    ]  # fmt: skip
    check(tasks, built(*tasks, revive=True), {})
    alone = [record(ROOT, 0, FOREIGN, 999)]
    check(alone, built(*alone, revive=True), {})


def test_shell_job_stays_in_our_group() -> None:
    procs = built(record(ROOT, 0, FOREIGN, FOREIGN), record(101, ROOT, FOREIGN, FOREIGN), shell_job=True)
    assert [(p.sid, p.pgid) for p in procs.values()] == [(OUTSIDE, OUTSIDE)] * 2


def test_session_leader() -> None:
    tasks = [record(ROOT, 0, ROOT, ROOT), record(101, ROOT, ROOT, 101), record(102, ROOT, ROOT, 101)]
    check(tasks, built(*tasks), {})


def test_child_born_before_its_parents_setsid() -> None:
    tasks = [
        record(ROOT, 0, ROOT, ROOT),
        record(101, ROOT, 101, 101),
        record(102, 101, ROOT, ROOT),
        record(103, 102, 103, 103),
        record(104, 103, ROOT, ROOT),
    ]
    check(tasks, built(*tasks), {})


def test_daemon_whose_session_leader_is_dead() -> None:
    tasks = [record(ROOT, 0, ROOT, ROOT), record(103, ROOT, 102, 102), record(104, 103, 102, 104)]
    steps = plan(tasks, ROOT).steps
    assert [s.pid for s in steps if isinstance(s, Create) and s.helper and s.pid > 0] == [102]
    assert {s.adopter for s in steps if isinstance(s, EndHelper)} == {OUTSIDE, ROOT}
    check(tasks, built(*tasks), {})


def test_group_whose_leader_is_dead() -> None:
    tasks = [record(ROOT, 0, ROOT, ROOT), record(103, ROOT, ROOT, 102), record(104, ROOT, ROOT, 102)]
    found = plan(tasks, ROOT)
    assert 102 in found.numbers
    check(tasks, carry_out(found).procs, {})


def test_leaders_that_are_in_groups_of_each_other() -> None:
    two = [record(ROOT, 0, ROOT, ROOT), record(101, ROOT, ROOT, 102), record(102, ROOT, ROOT, 101)]
    check(two, built(*two), {})
    three = [record(ROOT, 0, ROOT, ROOT), *(record(101 + n, ROOT, ROOT, 101 + (n + 1) % 3) for n in range(3))]
    check(three, built(*three), {})
    chain = [record(ROOT, 0, ROOT, ROOT), *(record(101 + n, ROOT, ROOT, min(102 + n, 104)) for n in range(4))]
    check(chain, built(*chain), {})


def test_task_adopted_from_another_session() -> None:
    tasks = [record(ROOT, 0, ROOT, ROOT), record(101, ROOT, 101, 101), record(102, ROOT, 101, 101)]
    check(tasks, built(*tasks), {})


def test_zombies_end_with_their_status_and_may_lead() -> None:
    zombie = record(101, ROOT, 101, 101, state="zombie", exit_code=7 << 8, mm_id=0)
    tasks = [record(ROOT, 0, ROOT, ROOT), zombie, record(102, ROOT, 101, 101)]
    check(tasks, built(*tasks), {})


def test_shared_things_are_cloned_together() -> None:
    tasks = [
        record(ROOT, 0, ROOT, ROOT),
        record(101, ROOT, ROOT, ROOT, mm_id=ROOT, fs_id=ROOT),
        record(102, ROOT, ROOT, ROOT),
        record(103, ROOT, ROOT, ROOT, table_id=102),
    ]
    procs = built(*tasks)
    assert procs[101].shares[uapi.CLONE_VM] == procs[ROOT].shares[uapi.CLONE_VM]
    assert procs[101].shares[uapi.CLONE_FILES] != procs[ROOT].shares[uapi.CLONE_FILES]
    assert procs[103].shares[uapi.CLONE_FILES] == procs[102].shares[uapi.CLONE_FILES]
    check(tasks, procs, {})


def test_a_table_is_shared_past_a_task_that_has_left_it() -> None:
    tasks = [
        record(ROOT, 0, ROOT, ROOT),
        record(101, ROOT, ROOT, ROOT),
        record(102, 101, ROOT, ROOT),
        record(103, 102, ROOT, ROOT, table_id=ROOT),
        record(104, 101, ROOT, ROOT),
    ]
    procs = built(*tasks)
    tables = {pid: procs[pid].shares[uapi.CLONE_FILES] for pid in procs}
    assert tables[103] == tables[ROOT] and len({tables[pid] for pid in (ROOT, 101, 102, 104)}) == 4
    check(tasks, procs, {})


@pytest.mark.parametrize(
    ("tasks", "words"),
    [
        ([record(ROOT, 0, ROOT, ROOT), record(101, 102, ROOT, ROOT), record(102, 101, ROOT, ROOT)], "circle"),
        ([record(ROOT, 0, ROOT, ROOT), record(101, ROOT, ROOT, 102), record(102, ROOT, 102, 102)], "group"),
        (
            [
                record(ROOT, 0, ROOT, ROOT),
                record(101, ROOT, ROOT, ROOT),
                record(102, 101, ROOT, ROOT, mm_id=103),
                record(103, ROOT, ROOT, ROOT, mm_id=103),
            ],
            "neither its parent nor its sibling",
        ),
        ([record(101, 0, 101, 101)], "root task"),
    ],
)
def test_refusals(tasks: list[TaskRecord], words: str) -> None:
    with pytest.raises(RestoreError, match=words):
        plan(tasks, ROOT)
    assert any(words in str(refusal) for refusal in plan_refusals(tasks, ROOT))


# ------------------------------------------------------------------ any history that a kernel allows


@st.composite
def histories(draw: st.DrawFn) -> list[TaskRecord]:
    """A tree as some sequence of forks, setsids, setpgids, exits and waits leaves it; the root is a subreaper."""
    model = Model()
    model.clone(ROOT, OUTSIDE)
    # The shell's session and group have a number, which is foreign to the tree.
    model.procs[ROOT].sid = model.procs[ROOT].pgid = FOREIGN
    own_group = draw(st.booleans())
    if draw(st.booleans()):
        model.setsid(ROOT)
    elif own_group:
        model.procs[ROOT].pgid = ROOT
    pid = ROOT
    for _ in range(draw(st.integers(0, 25))):
        living = [p.pid for p in model.procs.values() if not p.zombie]
        who = draw(st.sampled_from(living))
        action = draw(st.sampled_from(["fork", "fork", "fork", "setsid", "setpgid", "join", "exit", "wait"]))
        try:
            if action == "fork":
                pid += 1
                model.clone(pid, who)
            elif action == "setsid":
                model.setsid(who)
            elif action == "setpgid":
                model.setpgid(who, who)
            elif action == "join":
                groups = sorted({p.pgid for p in model.procs.values() if p.sid == model.procs[who].sid})
                model.setpgid(who, draw(st.sampled_from(groups)))
            elif action == "exit" and who != ROOT:
                model.exit(who, draw(st.sampled_from([0, 256, 9])), ROOT)
            elif action == "wait":
                zombies = [p.pid for p in model.procs.values() if p.zombie and p.ppid == who]
                if zombies:
                    model.reap(draw(st.sampled_from(zombies)), who)
        except NotAllowed:
            continue
    tasks = []
    for proc in model.procs.values():
        state = "zombie" if proc.zombie else "alive"
        parent = proc.ppid if proc.pid != ROOT else 0
        tasks.append(
            record(
                proc.pid, parent, proc.sid, proc.pgid, state=state, exit_code=proc.status,
                mm_id=0 if proc.zombie else proc.pid,
            )
        )  # fmt: skip
    return tasks


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(tasks=histories(), shell_job=st.booleans(), revive=st.booleans())
def test_any_tree_is_rebuilt_or_refused(tasks: list[TaskRecord], shell_job: bool, revive: bool) -> None:
    revive &= not shell_job
    try:
        found = plan(tasks, ROOT, shell_job=shell_job, revive=revive)
    except RestoreError:
        assert plan_refusals(tasks, ROOT) or shell_job or revive
        event("refused")
        return
    procs = carry_out(found).procs
    root = next(task for task in tasks if task.pid == ROOT)
    sessions, groups = {}, {}
    if root.sid == FOREIGN and not revive:
        sessions = {FOREIGN: OUTSIDE}
        if root.pgid not in procs:
            groups = {root.pgid: OUTSIDE if shell_job else ROOT}
    for task in tasks:
        proc = procs[task.pid]
        assert proc.ppid == task.ppid
        assert proc.sid == sessions.get(task.sid, task.sid)
        assert proc.pgid == groups.get(task.pgid, task.pgid)
        assert proc.zombie == (task.state == "zombie")
        assert proc.status == task.exit_code
    assert set(procs) == {task.pid for task in tasks}
