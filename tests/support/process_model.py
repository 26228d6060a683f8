"""A small model of the kernel's process rules: births, sessions, groups, deaths. Raises when a step is not allowed."""

from __future__ import annotations

from dataclasses import dataclass, field

from ckpt.engine.plan import Plan
from ckpt.engine.steps import OUTSIDE, Create, EndHelper, EndZombie, LeaveTable, SetPgid, SetSid
from ckpt.kernel import uapi

CLONE_FLAGS = uapi.CLONE_VM | uapi.CLONE_FILES | uapi.CLONE_FS | uapi.CLONE_SIGHAND


class NotAllowed(Exception):
    """The kernel would give an error."""


@dataclass
class Proc:
    pid: int
    ppid: int
    sid: int
    pgid: int
    zombie: bool = False
    status: int = 0
    exit_signal: int = 17
    shares: dict[int, int] = field(default_factory=dict)  # CLONE_* -> identity of what is shared


class Model:
    """Processes below `OUTSIDE`, which stands for ckpt (or the shell) in session and group OUTSIDE."""

    def __init__(self) -> None:
        self.procs: dict[int, Proc] = {}
        self._next = 1

    def _identity(self) -> int:
        self._next += 1
        return self._next

    def _numbers(self) -> set[int]:
        return {n for p in self.procs.values() for n in (p.pid, p.sid, p.pgid)}

    def clone(self, pid: int, creator: int, flags: int = 0, exit_signal: int = 17) -> None:
        if pid in self._numbers():
            raise NotAllowed(f"{pid} is in use")
        if creator == OUTSIDE:
            maker = Proc(OUTSIDE, OUTSIDE, OUTSIDE, OUTSIDE)
        else:
            maker = self.procs[creator]
            if maker.zombie:
                raise NotAllowed(f"{creator} is a zombie")
        if flags & uapi.CLONE_SIGHAND and not flags & uapi.CLONE_VM:
            raise NotAllowed("CLONE_SIGHAND without CLONE_VM")
        shares = {
            bit: maker.shares[bit] if flags & bit else self._identity()
            for bit in (uapi.CLONE_VM, uapi.CLONE_FILES, uapi.CLONE_FS, uapi.CLONE_SIGHAND)
        }
        parent = maker.ppid if flags & uapi.CLONE_PARENT else maker.pid
        self.procs[pid] = Proc(pid, parent, maker.sid, maker.pgid, exit_signal=exit_signal, shares=shares)

    def setsid(self, pid: int) -> None:
        if any(p.pgid == pid or p.sid == pid for p in self.procs.values()):
            raise NotAllowed(f"{pid} leads a group or session")
        self.procs[pid].sid = self.procs[pid].pgid = pid

    def setpgid(self, pid: int, pgid: int) -> None:
        me = self.procs[pid]
        if me.sid == pid:
            raise NotAllowed("a session leader")
        if pgid != pid and not any(p.pgid == pgid and p.sid == me.sid for p in self.procs.values()):
            raise NotAllowed(f"no group {pgid} in session {me.sid}")
        me.pgid = pgid

    def exit(self, pid: int, status: int, adopter: int) -> None:
        """Becomes a zombie; its children go to `adopter`, which must be an ancestor (or OUTSIDE)."""
        children = [p for p in self.procs.values() if p.ppid == pid]
        above, ancestors = self.procs[pid].ppid, set()
        while above != OUTSIDE:
            ancestors.add(above)
            above = self.procs[above].ppid
        if children and adopter != OUTSIDE and adopter not in ancestors:
            raise NotAllowed(f"{adopter} is no ancestor of {pid}")
        for child in children:
            child.ppid, child.exit_signal = adopter, 17
        self.procs[pid].zombie, self.procs[pid].status = True, status

    def leave_table(self, pid: int) -> None:
        self.procs[pid].shares[uapi.CLONE_FILES] = self._identity()

    def reap(self, pid: int, parent: int) -> None:
        if not self.procs[pid].zombie or self.procs[pid].ppid != parent:
            raise NotAllowed(f"{parent} cannot wait for {pid}")
        del self.procs[pid]


def carry_out(plan: Plan) -> Model:
    """Run the steps of a plan in a fresh model."""
    model = Model()
    for step in plan.steps:
        match step:
            case Create(pid, creator, flags, exit_signal):
                model.clone(pid, creator, flags, exit_signal)
            case SetSid(pid):
                model.setsid(pid)
            case SetPgid(pid, pgid):
                model.setpgid(pid, pgid)
            case LeaveTable(pid, _):
                model.leave_table(pid)
            case EndHelper(pid, reaper, adopter):
                model.exit(pid, 0, adopter)
                model.reap(pid, reaper)
            case EndZombie(pid, status):
                model.exit(pid, status, OUTSIDE)
    return model
