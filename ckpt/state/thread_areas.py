"""The three segments of the global descriptor table that each thread may have for itself (set_thread_area)."""

from __future__ import annotations

from ckpt.errors import KernelError
from ckpt.kernel import ptrace_requests as ptrace
from ckpt.kernel import uapi_state as us
from ckpt.records.support import Support
from ckpt.records.task import ThreadRecord
from ckpt.state.context import CollectContext
from ckpt.state.rebuild import rebuilding

SUPPORT = Support("registers", "segments", "those of a thread (set_thread_area)")

_NONE_HERE = "thread_areas:none-here"


def collect_areas(tid: int, context: CollectContext) -> tuple[bytes, ...]:
    """struct user_desc of each that is in use."""
    if context.shared.get(_NONE_HERE):
        return ()
    try:
        areas = [ptrace.get_thread_area(tid, number) for number in us.GDT_TLS]
    except KernelError:
        context.shared[_NONE_HERE] = True  # no CONFIG_IA32_EMULATION, so no call that makes one
        return ()
    return tuple(area for area in areas if us.user_desc.unpack(area)[1:] != (0, 0, us.USER_DESC_EMPTY))


def restore_areas(record: ThreadRecord) -> None:
    """From outside, before the registers, which may select them."""
    for area in record.areas:
        number = us.user_desc.unpack(area)[0]
        with rebuilding(record.pid, f"segment {number} of thread {record.tid}"):
            ptrace.set_thread_area(record.tid, number, area)
