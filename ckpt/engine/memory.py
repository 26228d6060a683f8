"""The address spaces of a tree being built: each is filled before tasks are cloned from it that share pages with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ckpt.engine.plan import Plan
from ckpt.engine.progress import Progress
from ckpt.engine.steps import OUTSIDE, Create
from ckpt.kernel import uapi
from ckpt.records.mm import MmRecord
from ckpt.records.runs import DATA, PageRuns
from ckpt.records.task import TaskRecord
from ckpt.state import attributes, limits, mm_inherit
from ckpt.state.context import RestoreContext
from ckpt.state.files import restore as files
from ckpt.state.mm_build import MmBuilder
from ckpt.trace.skeleton import Skeleton


@dataclass
class Memory:
    """Fills and completes the address spaces; `leaders` is the tree's own table, by pid."""

    context: RestoreContext
    mms: Mapping[int, MmRecord]
    tasks: Sequence[TaskRecord]
    plan: Plan
    leaders: Mapping[int, Skeleton]
    progress: Progress | None = None
    _builders: dict[int, MmBuilder] = field(default_factory=dict)  # of those that are filled, by mm_id
    _donors: dict[int, mm_inherit.Donor | None] = field(default_factory=dict)  # by pid: what it was cloned with
    _done: int = 0

    def __post_init__(self) -> None:
        self._living = {task.pid: task for task in self.tasks if task.state != "zombie"}
        self._total = sum(self._runs(mm).count(DATA) for mm in self.mms.values())
        self._early = self._find_donors()

    def _runs(self, mm: MmRecord) -> PageRuns:
        return self.context.view.runs(mm.space)

    def _find_donors(self) -> set[int]:
        """The mm_ids to be filled before anything is cloned from their tasks."""
        creators = {step.pid: step.creator for step in self.plan.steps if isinstance(step, Create)}
        found: set[int] = set()
        for pid, task in self._living.items():
            creator = creators.get(pid, OUTSIDE)
            while creator != OUTSIDE and creator not in self._living:
                creator = creators.get(creator, OUTSIDE)
            if creator == OUTSIDE or self._living[creator].mm_id in found | {task.mm_id}:
                continue
            donor, mm = self.mms[self._living[creator].mm_id], self.mms[task.mm_id]
            if mm_inherit.worth(donor, self._runs(donor), mm, self._runs(mm)):
                found.add(donor.mm_id)
        return found

    def before_clone(self, creator: int) -> None:
        """`creator` is about to be cloned: fill its memory first if its children have a use for it."""
        task = self._living.get(creator)
        if task is None or task.mm_id not in self._early or task.mm_id in self._builders:
            return
        mapped = {vma.file_id for vma in self.mms[task.mm_id].vmas if vma.backing == "file"}
        files.open_mapped(self.context, [file_id for file_id in mapped if file_id is not None])
        limits.raise_limits(self.leaders[creator], task.rlimits)
        attributes.rejoin_cgroups(creator, task.attributes.cgroups)  # its pages are to be charged there
        self._populate(task)

    def cloned(self, step: Create) -> None:
        """The task exists, with a copy of its creator's memory."""
        task = self._living.get(step.creator)
        donor = self._donors.get(step.creator)
        if task is not None and task.mm_id in self._builders:
            donor = self._builders[task.mm_id].as_donor()
        self._donors[step.pid] = donor if not step.flags & uapi.CLONE_VM else self._donors.get(step.creator)

    def build(self, task: TaskRecord) -> None:
        """Everything about the task's address space; once for those that share one."""
        builder = self._builders.get(task.mm_id) or self._populate(task)
        builder.complete()

    def _populate(self, task: TaskRecord) -> MmBuilder:
        leader = self.leaders[task.pid]
        builder = MmBuilder(self.context, leader, self.mms[task.mm_id], self._donors.get(task.pid))
        self._builders[task.mm_id] = builder
        for pages in builder.populate():
            self._done += pages
            if self.progress is not None:
                self.progress("restore", self._done, self._total)
        return builder
