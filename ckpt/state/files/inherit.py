"""Files that the caller of a restore gives instead of having them rebuilt: `--inherit-fd`.

A pipe or Unix socket to a process outside the tree has nobody at its other end after a restore. The caller names it as
the kernel did (`pipe:[INODE]`, `socket:[INODE]`, a path) with a descriptor of ckpt's own: `fd[N]:NAME`. `std` takes
ckpt's standard input, output and error for those of the root task that led outside. The descriptor shares its
description with the caller's, whose flags and position are left alone.
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
from ckpt.records.sockets import UnixPayload
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
    for name, fd in inherit.named:
        files = [file for file in context.files.values() if file.name == name]
        if not files:
            raise RestoreError(
                f"--inherit-fd: no task of the image has {name} open", hint="ckpt show --files lists the names"
            )
        fitting = [file for file in files if _fits(fd, _needs(file))]
        if not fitting:
            raise RestoreError(f"--inherit-fd: descriptor {fd} is not open for what the task does with {name}")
        for file in fitting:
            if _unread(file, context):
                raise RestoreError(
                    f"--inherit-fd: {name} holds what no task has read yet, which would be lost",
                    hint="restore without it: the task reads that, and then the end",
                )
            chosen[file.file_id] = fd
    if inherit.std:
        for file_id, numbers in _standard(context).items():
            file = context.files[file_id]
            if file_id in chosen or not _leads_outside(file, context) or _unread(file, context):
                continue
            # A socket is both ways; which of them the task uses say the numbers at which it stands.
            needs = {os.O_RDONLY if number == 0 else os.O_WRONLY for number in numbers}
            fd = 1 if 1 in numbers else max(numbers)
            if all(_fits(fd, need) for need in needs):
                chosen[file_id] = fd
    return chosen


def _standard(context: RestoreContext) -> dict[int, list[int]]:
    """file_id -> at which of 0, 1 and 2 the root task has it."""
    root = context.view.records("tree")[0].root_pid
    table = next(task.table_id for task in context.view.records("task") if task.pid == root)
    found: dict[int, list[int]] = {}
    for descriptor in context.tables[table].fds:
        if descriptor.fd < 3:
            found.setdefault(descriptor.file_id, []).append(descriptor.fd)
    return found


def _leads_outside(file: FileRecord, context: RestoreContext) -> bool:
    """A pipe or a connected Unix socket whose other end no task of the tree holds."""
    others = [other for other in context.files.values() if other.kind == file.kind]
    if isinstance(file.payload, PipeEnd):
        pipe = _pipe(file, context)
        return pipe.outside and len({o.flags & os.O_ACCMODE for o in others if o.name == file.name}) == 1
    if isinstance(file.payload, UnixPayload):
        peer = file.payload.peer_ino
        return bool(file.payload.connected and peer and all(o.payload.ino != peer for o in others))
    return False


def _unread(file: FileRecord, context: RestoreContext) -> bool:
    if isinstance(file.payload, PipeEnd):
        return file.flags & os.O_ACCMODE != os.O_WRONLY and bool(_pipe(file, context).chunks)
    return isinstance(file.payload, UnixPayload) and bool(file.payload.queue)


def _pipe(file: FileRecord, context: RestoreContext) -> PipeRecord:
    found: PipeRecord = next(pipe for pipe in context.view.records("pipe") if pipe.key == file.payload.key)
    return found


def _needs(file: FileRecord) -> int:
    return file.flags & os.O_ACCMODE


def _fits(fd: int, need: int) -> bool:
    """Whether the descriptor is open here, and for reading or writing as the task needs it."""
    try:
        access = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE
    except OSError:
        return False
    return access in (os.O_RDWR, need)
