"""Everything that stands against a dump, found in the freeze before anything is armed, and raised at once."""

from __future__ import annotations

from collections.abc import Sequence

from ckpt.engine.plan import plan_refusals
from ckpt.errors import NotDumpable
from ckpt.records.mm import MmRecord
from ckpt.records.task import TaskRecord
from ckpt.state import aio, mm_room
from ckpt.state.context import CollectContext
from ckpt.state.mm import Mm
from ckpt.state.tree import collect_tree
from ckpt.trace.freezer import FrozenTree
from ckpt.trace.skeleton import BLOCK_SIZE


def collect(tree: FrozenTree, mms: Sequence[Mm], context: CollectContext) -> None:
    """The tree's records, but for its pages, in `context`. NotDumpable holds every refusal: of states and of shape."""
    aio.settle(mms, context)
    try:
        collect_tree(tree, mms, context)
    except NotDumpable as error:  # where a thread can do no calls nothing more can be learnt
        context.refusals += [refusal for refusal in error.refusals if refusal not in context.refusals]
    tasks = [record for record in context.records if isinstance(record, TaskRecord)]
    context.refusals += plan_refusals(tasks, tree.root, shell_job=context.options.shell_job)
    spaces = [record for record in context.records if isinstance(record, MmRecord)]
    context.refusals += mm_room.refusals(spaces, BLOCK_SIZE)
    if context.refusals:
        raise NotDumpable(context.refusals)
