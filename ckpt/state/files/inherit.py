"""Files that the caller of a restore gives instead of having them rebuilt: `--inherit-fd`.

A pipe to a process outside the tree has nobody at its other end after a restore. The caller names it as the kernel
did (`pipe:[INODE]`, `socket:[INODE]`, a path) with a descriptor of ckpt's own: `fd[N]:NAME`. `std` takes ckpt's
standard input, output and error for those of the root task that led outside. The descriptor shares its description
with the caller's, whose flags and position are left alone.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

from ckpt.errors import RestoreError, UsageError
from ckpt.records.file_kinds import PipeEnd, PipeRecord
from ckpt.records.files import FileRecord
from ckpt.state.context import RestoreContext

STD = "std"
_SPEC = re.compile(r"fd\[(\d+)\]:(.+)")


@dataclass(frozen=True, slots=True)
class Inherit:
    """What the caller gives: descriptors by the names of the files that they replace."""

    named: tuple[tuple[str, int], ...] = ()
    std: bool = False


def parse(specs: Sequence[str], *, std: bool = False) -> Inherit:
    """From the words of the command line; UsageError for one that means nothing. `std`: also without being said."""
    named = []
    for spec in specs:
        found = _SPEC.fullmatch(spec)
        if spec == STD:
            std = True
        elif found is None:
            raise UsageError(
                f"--inherit-fd {spec!r} cannot be understood", hint="std, or fd[N]:NAME as in fd[1]:pipe:[4711]"
            )
        else:
            try:
                fcntl.fcntl(int(found[1]), fcntl.F_GETFD)
            except OSError:
                raise UsageError(f"--inherit-fd {spec}: ckpt has no descriptor {found[1]}") from None
            named.append((found[2], int(found[1])))
    return Inherit(tuple(named), std)


def choose(inherit: Inherit, context: RestoreContext) -> dict[int, int]:
    """file_id -> the caller's descriptor, for every file that is not to be rebuilt."""
    chosen: dict[int, int] = {}
    pipes = {pipe.key: pipe for pipe in context.view.records("pipe")}
    for name, fd in inherit.named:
        files = [file for file in context.files.values() if file.name == name]
        if not files:
            raise RestoreError(
                f"--inherit-fd: no task of the image has {name} open", hint="ckpt show --files lists the names"
            )
        fitting = [file for file in files if _fits(file, fd)]
        if not fitting:
            raise RestoreError(f"--inherit-fd: descriptor {fd} is not open for what the task does with {name}")
        for file in fitting:
            _refuse_loss(file, pipes)
            chosen[file.file_id] = fd
    if inherit.std:
        for number, file in _standard(context).items():
            if file.file_id not in chosen and _leads_outside(file, pipes, context) and _fits(file, number):
                chosen[file.file_id] = number
    return chosen


def _standard(context: RestoreContext) -> dict[int, FileRecord]:
    root = context.view.records("tree")[0].root_pid
    table = next(task.table_id for task in context.view.records("task") if task.pid == root)
    return {d.fd: context.files[d.file_id] for d in context.tables[table].fds if d.fd < 3}


def _leads_outside(file: FileRecord, pipes: dict[str, PipeRecord], context: RestoreContext) -> bool:
    """A pipe whose other end was outside alone; not one with bytes in it that the task has yet to read."""
    if not isinstance(file.payload, PipeEnd):
        return False
    pipe = pipes[file.payload.key]
    ends = {f.flags & os.O_ACCMODE for f in context.files.values() if f.name == file.name}
    return pipe.outside and not pipe.chunks and len(ends) == 1


def _refuse_loss(file: FileRecord, pipes: dict[str, PipeRecord]) -> None:
    if isinstance(file.payload, PipeEnd) and (waiting := sum(map(len, pipes[file.payload.key].chunks))):
        raise RestoreError(
            f"--inherit-fd: {file.name} holds {waiting} bytes that no task has read yet, which would be lost",
            hint="restore without it: the task reads them, and then the end of the pipe",
        )


def _fits(file: FileRecord, fd: int) -> bool:
    """Whether the descriptor is open here, and for reading or writing as the task needs it."""
    try:
        access = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE
    except OSError:
        return False
    return access in (os.O_RDWR, file.flags & os.O_ACCMODE)
