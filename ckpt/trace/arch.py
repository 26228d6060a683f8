"""What a frozen task's code is made for."""

from __future__ import annotations

from ckpt.errors import NotDumpable, Refusal
from ckpt.records.support import Support
from ckpt.trace import sigframe
from ckpt.trace.freezer import FrozenTree

SUPPORT = Support("tasks", "architecture", "x86_64")


def refuse_foreign_arch(tree: FrozenTree) -> None:
    """Refuse tasks that run 32-bit code."""
    refusals = []
    for thread in tree.threads():
        if thread.child is not None:  # its child runs the same program
            continue
        gpr = thread.gpr
        if sigframe.is_foreign(gpr) or int.from_bytes(gpr[17 * 8 : 18 * 8], "little") != 0x33:  # cs of 64-bit user code
            refusals.append(
                Refusal(thread.pid, f"thread {thread.tid}", "runs 32-bit code", "only 64-bit tasks can be dumped")
            )
    if refusals:
        raise NotDumpable(refusals)
