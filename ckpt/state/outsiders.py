"""What tasks share with processes outside the tree: nobody freezes those, and no restore joins them again."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress

from ckpt.errors import KernelError
from ckpt.kernel import uapi
from ckpt.kernel.descriptors import Sharers, kcmp
from ckpt.records.support import Support
from ckpt.state.context import CollectContext

SUPPORT = Support("tasks", "sharing", "what tasks of the tree share with each other")

_FOUND = "outsiders:found"
_KINDS = {
    uapi.KCMP_VM: "its memory (CLONE_VM)",
    uapi.KCMP_FILES: "its descriptor table (CLONE_FILES)",
    uapi.KCMP_FS: "its directories (CLONE_FS)",
    uapi.KCMP_SIGHAND: "its signal actions (CLONE_SIGHAND)",
}


def look_for_outsiders(tree: Sequence[int], context: CollectContext) -> None:
    """Note which processes share something with a task of the running tree.

    Looks at all of /proc, so that it is called before the freeze. Processes that this user may not look into are passed
    over.
    """
    found: list[tuple[int, int, int]] = []
    outside = sorted({int(name) for name in os.listdir("/proc") if name.isdigit()}.difference(tree, {os.getpid()}))
    for what in _KINDS:
        sharers = Sharers(what)
        for pid in tree:
            with suppress(KernelError):  # it has just ended
                sharers.stands_for(pid)
        for pid in outside:
            with suppress(KernelError):
                if (inside := sharers.find(pid)) is not None:
                    found.append((inside, pid, what))
    context.shared[_FOUND] = found


def check_outsiders(context: CollectContext) -> None:
    """Refuse what was noted, if it is still so in the freeze."""
    tree = {task.pid for task in context.tasks}
    for inside, pid, what in context.shared.get(_FOUND, []):
        with suppress(KernelError):
            if inside in tree and pid not in tree and kcmp(inside, pid, what) == 0:
                reason = f"is shared with process {pid}, which is outside the tree"
                hint = "dump the tree that has both in it, or end that process"
                context.refuse(inside, _KINDS[what], reason, hint, passing=True)
