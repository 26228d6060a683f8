"""Turning the kernel's refusals into errors that name the state which could not be rebuilt."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ckpt.errors import KernelError, NotPermitted, RestoreError


@contextmanager
def rebuilding(pid: int, what: str, *, hint: str | None = None) -> Iterator[None]:
    """A KernelError inside becomes `task PID: WHAT could not be restored: …`."""
    try:
        yield
    except KernelError as error:
        if hint is None and isinstance(error, NotPermitted):
            hint = "run ckpt as root, with the capabilities that the task had"
        raise RestoreError(
            f"task {pid}: {what} could not be restored: {error.message}", hint=hint or error.hint
        ) from error


def failed(what: str, error: KernelError) -> RestoreError:
    """The RestoreError about an object that the kernel does not let be made again."""
    return RestoreError(f"{what} cannot be restored: {error.message}", hint=remedy(error))


def remedy(error: KernelError) -> str | None:
    """The hint that goes with it in a RestoreError."""
    if isinstance(error, NotPermitted):
        return "restore as root; ckpt doctor tells what this user cannot do"
    return error.hint
