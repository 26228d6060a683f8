"""Orphans of what ckpt starts become its own children."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

from ckpt.kernel import uapi, uapi_restore
from ckpt.kernel import uapi_state as us
from ckpt.kernel.libc import syscall


@contextmanager
def adopting() -> Iterator[None]:
    """ckpt is the subreaper of what it makes, so that nothing half-built can slip away to init."""
    was = ctypes.c_int()
    syscall("PR_GET_CHILD_SUBREAPER", uapi.SYS_prctl, us.PR_GET_CHILD_SUBREAPER, ctypes.byref(was), 0, 0, 0)
    try:
        set_subreaper(1)
        yield
    finally:
        set_subreaper(was.value)


def set_subreaper(value: int) -> None:
    """PR_SET_CHILD_SUBREAPER."""
    syscall("PR_SET_CHILD_SUBREAPER", uapi.SYS_prctl, uapi_restore.PR_SET_CHILD_SUBREAPER, value, 0, 0, 0)
