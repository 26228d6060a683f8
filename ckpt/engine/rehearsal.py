"""A dress rehearsal before the freeze: the same steps, on a tiny process of ckpt's own.

What runs for the first time is slow: the interpreter has not specialised the code yet, its pages and caches are cold.
All of that would be the target's waiting. In a process that has just been started, as for each call of the command,
a round freezes its target for up to twice as long as the next one does; after a rehearsal it does not.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from ckpt.engine.collect import collect
from ckpt.engine.spaces import Parents, Tracking
from ckpt.errors import CkptError, NotDumpable
from ckpt.kernel import tiny
from ckpt.state.context import CollectContext
from ckpt.state.mm import address_spaces
from ckpt.state.tree import as_tasks
from ckpt.trace.freezer import freeze
from ckpt.tracker.write_protect import HeldDescriptors

_NAME = "ckpt-rehearsal"
_TIMES = 4  # later ones find what the first has armed, as a later round does; after four the code is warm
# x86_64. It ends with ckpt, and in any case after a minute.
_CODE = bytes.fromhex(
    "bf01000000"  # mov edi, PR_SET_PDEATHSIG
    "be09000000"  # mov esi, SIGKILL
    "b89d000000"  # mov eax, SYS_prctl
    "0f05"  # syscall
    "bf3c000000"  # mov edi, 60
    "b825000000"  # mov eax, SYS_alarm
    "0f05"  # syscall
    # again:
    "b822000000"  # mov eax, SYS_pause
    "0f05"  # syscall
    "ebf7"  # jmp again
    # what a remote syscall borrows
    "0f05c3"  # syscall; ret
    "b80f0000000f05"  # mov eax, SYS_rt_sigreturn; syscall
    "97c3"  # xchg eax, edi; ret
    "58c3"  # pop rax; ret
)


@contextmanager
def _extra() -> Iterator[int]:
    """The tiny process."""
    pid = tiny.start(_NAME, _CODE)
    try:
        yield pid
    finally:
        with suppress(ProcessLookupError, ChildProcessError):  # the embedding program reaps every child
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def rehearse(tracker: str, *, dump: bool) -> None:
    """Freeze, look, arm and thaw; for a dump collect, too. What fails here will say so when it matters."""
    with ExitStack() as stack:
        held = HeldDescriptors()
        stack.callback(held.close)
        try:
            pid = stack.enter_context(_extra())
            states: dict[str, bytes] = {}
            for _ in range(_TIMES):
                states = _round(pid, Tracking(tracker, states, held), dump)
        except CkptError:
            return


def _round(pid: int, tracking: Tracking, dump: bool) -> dict[str, bytes]:
    context = CollectContext([])
    with context.stack, freeze(pid) as tree:
        context.tasks = as_tasks(tree)
        mms = address_spaces(context.tasks)
        if dump:
            with suppress(NotDumpable):  # it may have inherited a descriptor of the embedding program's
                collect(tree, mms, context)
        looks = [tracking.look(mm, exact=dump, arm=True) for mm in mms]
        tree.thaw()
        for look in looks:
            look(Parents())
        tracking.settle()
    return tracking.new_states
