"""The order in which a tree is built: who clones whom, sessions, process groups, dead leaders, zombies. Pure.

Rules that are not in the kernel's own:

- The root's session, when its leader is not in the tree, becomes the session of ckpt itself (0 below); with `revive`
  (its number is free: the leader has ended, as that of a daemon) it is made again, by a helper that the root is born
  under.
- The root's process group, when its leader is not in the tree, becomes ckpt's own group with `shell_job` (as
  the job of the shell that runs ckpt) or when it is that very group (as of a script that runs the program and ckpt,
  and never called setsid), else a group that the root leads.
- A dead session or group leader whose number is still in use is played by a helper task, which ends and is
  reaped before the tree runs. A task whose parent is not in its session is born under a helper below its
  parent, which ends; the parent is made a subreaper for that moment.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from ckpt.engine.births import shared_tables
from ckpt.engine.steps import OUTSIDE, Create, EndHelper, EndZombie, LeaveTable, SetPgid, SetSid, Step
from ckpt.errors import Refusal, RestoreError
from ckpt.kernel import uapi
from ckpt.records.task import TaskRecord


@dataclass(frozen=True, slots=True)
class Plan:
    """Steps in order, and every number that must be free before the first."""

    steps: tuple[Step, ...]
    numbers: frozenset[int]


def plan(
    tasks: Sequence[TaskRecord], root_pid: int, *, shell_job: bool = False, revive: bool = False, caller: int = 0
) -> Plan:
    """The steps that build the tree. RestoreError names every task that cannot be placed.

    `caller` is the process group that ckpt is in.
    """
    planner = _Planner(tasks, root_pid, shell_job, revive, caller)
    planner.run()
    if planner.refusals:
        lines = "\n".join(str(refusal) for refusal in planner.refusals)
        hint = next((refusal.hint for refusal in planner.refusals if refusal.hint), None)
        raise RestoreError(lines, hint=hint)
    tids = {tid for task in tasks for tid in task.tids}
    made = {step.pid for step in planner.steps if isinstance(step, Create) and step.pid > 0}
    return Plan(tuple(planner.steps), frozenset(tids | made))


def plan_refusals(
    tasks: Sequence[TaskRecord], root_pid: int | None = None, *, shell_job: bool = False
) -> list[Refusal]:
    """What of the tree's shape could not be rebuilt; to be asked at dump time too."""
    if not tasks:
        return []
    root = root_pid if root_pid is not None else next((t.pid for t in tasks if t.ppid == 0), tasks[0].pid)
    planner = _Planner(tasks, root, shell_job)
    planner.run()
    return planner.refusals


_SHARED = (
    ("mm_id", uapi.CLONE_VM, "memory"),
    ("table_id", uapi.CLONE_FILES, "descriptor table"),
    ("fs_id", uapi.CLONE_FS, "working directory (CLONE_FS)"),
    ("sighand_id", uapi.CLONE_SIGHAND, "signal actions"),
)


def _tables(task: TaskRecord) -> set[int]:
    """The descriptor tables that its threads use."""
    return {task.table_id, *dict(task.thread_tables).values()}


@dataclass
class _Planner:
    tasks: Sequence[TaskRecord]
    root: int
    shell_job: bool
    revive: bool = False
    caller: int = 0
    refusals: list[Refusal] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._by = {task.pid: task for task in self.tasks}
        self._session: dict[int, int] = {}  # of tasks that exist, helpers too
        self._group: dict[int, int] = {}
        self._parent: dict[int, int] = {}
        self._helpers: list[EndHelper] = []
        self._needs: dict[int, frozenset[int]] = {}
        self._shared = shared_tables(self.tasks)
        self._carried: dict[int, int] = {}  # pid -> the table that it has until its children are born

    def run(self) -> None:
        if not self._sane():
            return
        self._normalise()
        self._children: dict[int, list[TaskRecord]] = {task.pid: [] for task in self.tasks}
        waiting: list[TaskRecord] = []
        for task in self.tasks:
            if task.pid == self.root:
                continue
            if task.ppid in self._by:
                self._children[task.ppid].append(task)
            else:
                waiting.append(task)
        root = self._by[self.root]
        leader = root.sid if root.sid not in self._by else OUTSIDE
        if leader != OUTSIDE:
            self._help(leader, OUTSIDE)
            self._setsid(leader)
        self._create(root.pid, leader, 0, root.exit_signal)
        self._parent[root.pid] = OUTSIDE
        self._waiting = waiting
        self._grow(root)
        self._place_waiting()
        if not self.refusals:
            self._make_groups()
        self.steps += [LeaveTable(pid, table) for pid, table in self._carried.items()]
        self.steps += reversed(self._helpers)
        self.steps += [EndZombie(t.pid, t.exit_code) for t in self.tasks if t.state == "zombie"]

    def _refuse(self, pid: int, subject: str, reason: str, hint: str | None = None) -> None:
        self.refusals.append(Refusal(pid, subject, reason, hint))

    # ------------------------------------------------------------------ the input

    def _sane(self) -> bool:
        if self.root not in self._by:
            self._refuse(self.root, "the root task", "is not in the image")
            return False
        if len(self._by) != len(self.tasks):
            self._refuse(self.root, "the tree", "holds a pid twice")
            return False
        for task in self.tasks:
            parent, seen = task.ppid, {task.pid}
            while parent in self._by and parent != self.root:
                if parent in seen:
                    self._refuse(task.pid, "its ancestors", "form a circle")
                    return False
                seen.add(parent)
                parent = self._by[parent].ppid
            if task.ppid in self._by and self._by[task.ppid].state == "zombie":
                self._refuse(task.pid, "its parent", f"{task.ppid} is a zombie")
        if self._by[self.root].state == "zombie":
            self._refuse(self.root, "the root task", "is a zombie")
        return not self.refusals

    def _normalise(self) -> None:
        """Put OUTSIDE in place of the root's foreign session and group."""
        root = self._by[self.root]
        if self.revive and root.sid and root.sid not in self._by:
            return
        foreign_sid = root.sid if root.sid not in self._by else None
        foreign_pgid = root.pgid if root.pgid not in self._by else None
        same_group = self.caller and root.pgid == self.caller
        own_group = OUTSIDE if self.shell_job or same_group else self.root
        for task in self.tasks:
            sid = OUTSIDE if task.sid in (foreign_sid, 0) else task.sid
            pgid = own_group if task.pgid in (foreign_pgid, 0) and sid == OUTSIDE else task.pgid
            self._by[task.pid] = replace(task, sid=sid, pgid=pgid)
        self.tasks = list(self._by.values())

    # ------------------------------------------------------------------ births and sessions

    def _create(
        self, pid: int, creator: int, flags: int, exit_signal: int, *, helper: bool = False, thread: int = 0
    ) -> None:
        self.steps.append(Create(pid, creator, flags, exit_signal, helper, thread))
        self._session[pid] = self._session.get(creator, OUTSIDE)
        self._group[pid] = self._group.get(creator, OUTSIDE)
        self._parent[pid] = self._parent[creator] if flags & uapi.CLONE_PARENT else creator

    def _help(self, pid: int, creator: int, adopter: int = OUTSIDE) -> None:
        self._create(pid, creator, 0, 0, helper=True)
        self._helpers.append(EndHelper(pid, creator, adopter))

    def _setsid(self, pid: int) -> None:
        self.steps.append(SetSid(pid))
        self._session[pid] = self._group[pid] = pid

    def _birth_needs(self, task: TaskRecord) -> frozenset[int]:
        """The sessions in which the task or a child of it (before its setsid) has to be born."""
        known = self._needs.get(task.pid)
        if known is None:
            if task.sid != task.pid:
                known = frozenset({task.sid})
            else:
                known = frozenset(need for child in self._children[task.pid] for need in self._birth_needs(child)) - {
                    task.pid
                }
            self._needs[task.pid] = known
        return known

    def _grow(self, task: TaskRecord) -> None:
        """The task exists: give it its session and children."""
        born = self._session[task.pid]
        leads = task.sid == task.pid
        if not leads and born != task.sid:
            self._refuse(task.pid, "its session", f"{task.sid} is led by a task that does not exist yet")
            return
        early = [c for c in self._children[task.pid] if leads and born in self._birth_needs(c)]
        for child in early:
            self._bear(task, child)
        if leads:
            self._setsid(task.pid)
        for child in self._children[task.pid]:
            if child in early:
                continue
            if child.sid in (child.pid, task.sid):
                self._bear(task, child)
            else:
                self._waiting.append(child)

    def _bear(self, parent: TaskRecord, child: TaskRecord) -> None:
        born = [c for c in self._children[parent.pid] if c.pid in self._session and c.state != "zombie"]
        options = [(parent, thread) for thread in self._makers(parent, child)]
        options += [(one, thread) for one in born for thread in self._makers(one, child)]
        for creator, thread in options:
            held = self._table_of(creator, thread)
            flags = self._flags(creator, child, held, dict(creator.thread_fs).get(thread, creator.fs_id))
            if flags is None:
                continue
            if creator is not parent:
                if child.sid not in (child.pid, self._session[creator.pid]):
                    continue
                flags |= uapi.CLONE_PARENT
            if flags & uapi.CLONE_SIGHAND and not flags & uapi.CLONE_VM:
                self._refuse(child.pid, "its signal actions", "are shared without its memory")
                return
            if flags & uapi.CLONE_FILES and held != child.table_id:
                self._carried[child.pid] = held
            self._create(child.pid, creator.pid, flags, child.exit_signal, thread=thread)
            self._grow(child)
            return
        self._refuse(
            child.pid,
            self._shared_subject(child),
            "shared with a task that is neither its parent nor its sibling",
        )

    def _partners(self, task: TaskRecord, attribute: str) -> set[int]:
        """The existing tasks with which it shares something."""
        value = getattr(task, attribute)
        if not value or task.state == "zombie":
            return set()
        existing = [self._by[pid] for pid in self._session if pid in self._by]
        if attribute == "table_id":
            return {one.pid for one in existing if value in _tables(one)}
        if attribute == "fs_id":
            return {one.pid for one in existing if value in (one.fs_id, *dict(one.thread_fs).values())}
        return {one.pid for one in existing if getattr(one, attribute) == value}

    def _makers(self, creator: TaskRecord, child: TaskRecord) -> list[int]:
        """The threads of `creator` that may clone the child, the best first; 0 for its leader."""
        own = child.parent_tid if child.ppid == creator.pid and child.parent_tid in creator.tids else creator.pid
        fit = [tid for tid, table in creator.thread_tables if table == child.table_id]
        fit += [tid for tid, fs in creator.thread_fs if fs == child.fs_id]
        tids = dict.fromkeys((own, creator.pid, *fit))
        return [tid if tid != creator.pid else 0 for tid in tids if not self._stays_behind(creator, tid)]

    def _stays_behind(self, creator: TaskRecord, tid: int) -> bool:
        """Whether the thread, made now, would keep a table that the leader will leave, and share the leader's then."""
        table = dict(creator.thread_tables).get(tid, creator.table_id)
        return creator.pid in self._carried and tid != creator.pid and table == creator.table_id

    def _table_of(self, creator: TaskRecord, thread: int) -> int:
        """The table that the thread (0: the leader) has now."""
        table = dict(creator.thread_tables).get(thread, 0)
        return table if table in self._shared else self._table_at_birth(creator)

    def _flags(self, creator: TaskRecord, child: TaskRecord, table: int, fs: int) -> int | None:
        """The CLONE_* flags by which `child` shares what it must; None when a `creator` with these is wrong."""
        flags = 0
        for attribute, flag, _ in _SHARED:
            partners = self._partners(child, attribute)
            held = {"table_id": table, "fs_id": fs}.get(attribute, getattr(creator, attribute))
            passed_on = attribute == "table_id" and not partners and self._carries(child, held)
            if passed_on or (partners and held == getattr(child, attribute)):
                flags |= flag
            elif partners:
                return None
        return flags

    def _table_at_birth(self, creator: TaskRecord) -> int:
        return self._carried.get(creator.pid, creator.table_id)

    def _carries(self, task: TaskRecord, table: int) -> bool:
        """Whether the task left (unshare) a table that a task below it has still, and shares its own with none."""
        if table not in self._shared:
            return False
        below, todo = _tables(task) - {task.table_id}, list(self._children[task.pid])
        while todo:
            one = todo.pop()
            below |= _tables(one)
            todo += self._children[one.pid]
        return table in below and task.table_id not in below

    def _shared_subject(self, task: TaskRecord) -> str:
        names = [name for attribute, _, name in _SHARED if self._partners(task, attribute)]
        return f"its {' and '.join(names) or 'state'} (is)"

    # ------------------------------------------------------------------ parents outside the session

    def _place_waiting(self) -> None:
        while self._waiting:
            for task in sorted(self._waiting, key=lambda t: -self._depth(t.ppid)):
                creator = self._creator_in_session(task)
                if creator is not None:
                    break
            else:
                for task in self._waiting:
                    self._refuse(
                        task.pid,
                        "its session",
                        f"{task.sid} has no task below its parent {task.ppid} to be born from",
                    )
                return
            self._waiting.remove(task)
            if any(self._partners(task, attribute) for attribute, _, _ in _SHARED):
                self._refuse(task.pid, self._shared_subject(task), "shared with a task of another session")
                continue
            adopter = task.ppid if task.ppid in self._by else OUTSIDE
            helper = -len(self._helpers) - 1
            self._help(helper, creator, adopter)
            self._create(task.pid, helper, 0, task.exit_signal)
            self._parent[task.pid] = adopter
            self._grow(task)

    def _depth(self, pid: int) -> int:
        depth = 0
        while pid in self._parent:
            pid, depth = self._parent[pid], depth + 1
        return depth

    def _below(self, pid: int, ancestor: int) -> bool:
        while pid != ancestor and pid in self._parent:
            pid = self._parent[pid]
        return pid == ancestor

    def _creator_in_session(self, task: TaskRecord) -> int | None:
        """An existing task of the session at or below the future parent; a helper for a dead leader."""
        above = task.ppid if task.ppid in self._by else self.root
        if above not in self._session:
            return None
        if task.sid == task.pid:
            return above
        for pid, session in self._session.items():
            if session == task.sid and self._below(pid, above):
                return pid
        if task.sid in self._by or task.sid in self._session or task.sid == OUTSIDE:
            return None
        self._help(task.sid, above)
        self._setsid(task.sid)
        return task.sid

    # ------------------------------------------------------------------ process groups

    def _make_groups(self) -> None:
        members: dict[int, list[TaskRecord]] = {}
        for task in self.tasks:
            members.setdefault(task.pgid, []).append(task)
        founders: set[int] = set()
        for pgid, group in members.items():
            if len({task.sid for task in group}) > 1:
                self._refuse(group[0].pid, "its process group", f"{pgid} spans two sessions")
            elif pgid != OUTSIDE and pgid not in self._group.values():
                founders.add(pgid)
                self._found_group(pgid, group)
        for pgid in founders:  # from some, the leader and all members go off to others: a helper stays meanwhile
            if pgid in self._by and self._by[pgid].pgid != pgid and founders.issuperset(t.pid for t in members[pgid]):
                helper = -len(self._helpers) - 1
                self._help(helper, members[pgid][0].pid)
                self._setpgid(helper, pgid)
        joining = [t for t in self.tasks if self._group[t.pid] != t.pgid]
        for task in sorted(joining, key=lambda t: t.pid in founders):
            if task.sid == task.pid or task.pgid == OUTSIDE or task.pgid not in self._group.values():
                self._refuse(task.pid, "its process group", f"{task.pgid} cannot be joined")
                continue
            self._setpgid(task.pid, task.pgid)

    def _found_group(self, pgid: int, group: Iterable[TaskRecord]) -> None:
        first = next(iter(group))
        if pgid not in self._session:
            self._help(pgid, first.pid)
        if self._session[pgid] != first.sid or self._session[pgid] == pgid:
            self._refuse(first.pid, "its process group", f"{pgid} is led by a task of another session")
            return
        self._setpgid(pgid, pgid)

    def _setpgid(self, pid: int, pgid: int) -> None:
        self.steps.append(SetPgid(pid, pgid))
        self._group[pid] = pgid
