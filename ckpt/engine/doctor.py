"""What this kernel and this user can do, and whether a task can be dumped."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial

from ckpt.engine.collect import collect
from ckpt.engine.namespaces import where_it_lives
from ckpt.engine.round import check_outside, prepare, tree_pids
from ckpt.errors import KernelError, NotDumpable, Refusal
from ckpt.kernel import features
from ckpt.kernel.features import Feature
from ckpt.kernel.writers import Writers
from ckpt.state import rings, sockets
from ckpt.state.context import CollectContext, DumpOptions
from ckpt.state.files.pipes import pipe_users
from ckpt.state.mm import address_spaces
from ckpt.state.outsiders import look_for_outsiders
from ckpt.state.tree import as_tasks
from ckpt.trace.arch import refuse_foreign_arch
from ckpt.trace.checks import check_task
from ckpt.trace.freezer import freeze
from ckpt.tracker import choice


@dataclass(frozen=True, slots=True)
class DoctorReport:
    """Every probed feature, the tracker that `auto` takes, and why."""

    features: Sequence[Feature]
    tracker: str
    why: str


def doctor() -> DoctorReport:
    """Probe everything in this process; nothing else is touched."""
    tracker, why = choice.choose("auto")
    return DoctorReport(features.table(), tracker, why)


def dumpable(pid: int, options: DumpOptions | None = None, *, timeout: float = 5.0) -> list[Refusal]:
    """What stands against a dump of the tree under `pid`; the tree is frozen for a moment and otherwise left alone."""
    return where_it_lives(pid, lambda inside, _: _dumpable(inside, options or DumpOptions(), timeout))


def _dumpable(pid: int, options: DumpOptions, timeout: float) -> list[Refusal]:
    check_task(pid)
    check_outside(pid)
    prepare(pid)
    context = CollectContext([], options)
    context.shared["pipe:users"] = pipe_users()
    look_for_outsiders(tree_pids(pid), context)
    with ExitStack() as stack:
        with suppress(KernelError):
            writers = context.shared[rings.WRITERS] = Writers()
            stack.callback(writers.close)
            for one in tree_pids(pid):
                writers.meet(one)
        stack.enter_context(context.stack)
        tree = stack.enter_context(freeze(pid, timeout=timeout))
        tree.before_thaw = partial(sockets.release, context)
        context.tasks = as_tasks(tree)
        try:
            refuse_foreign_arch(tree)
            collect(tree, address_spaces(context.tasks), context)
        except NotDumpable as error:
            return list(error.refusals)
    return []
