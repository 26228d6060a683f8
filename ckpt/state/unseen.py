"""Mapped memory that no path leads to for this user: what map_files would show is read through the mappings.

Without CAP_CHECKPOINT_RESTORE an anonymous shared mapping, or a deleted file that is only mapped, cannot be opened.
In the freeze its contents are copied into a memfd of ckpt's own, and that stands for it: up to the end of the last
mapping, with the owner and mode of the copy.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from ckpt.errors import KernelError
from ckpt.kernel import mapped, procfs, uapi
from ckpt.kernel.memory import Memory
from ckpt.kernel.procfs import MapsLine
from ckpt.state.context import CollectContext, FrozenTaskLike


def way_to(context: CollectContext, pid: int, line: MapsLine) -> str:
    """A path to the file behind a mapping, or to a copy of it; a map_files link, which cannot be followed, if neither.

    A private mapping is no way to its file: what it shows may be the task's own. Nor is the copy one for it, whose
    pages it would not share.
    """
    key = _key(line)
    if key not in context.shared or not line.shared:
        found = mapped.way_to(pid, line, [task.pid for task in context.tasks])
        if found is not None or not line.shared:
            return found or mapped.map_file(pid, line)
        context.shared[key] = _copied(context, pid, line)
        context.stack.callback(os.close, context.shared[key])
    return f"/proc/self/fd/{context.shared[key]}"


def open_object(context: CollectContext, pid: int, line: MapsLine) -> int | None:
    """A descriptor of a shared memory object or of its copy; None when it cannot be opened and was not copied."""
    way = mapped.way_to(pid, line, [task.pid for task in context.tasks])
    if way is None and _key(line) in context.shared:
        way = f"/proc/self/fd/{context.shared[_key(line)]}"
    return None if way is None else os.open(way, os.O_RDONLY | os.O_CLOEXEC)


def _key(line: MapsLine) -> str:
    return f"unseen:{line.dev}:{line.ino}"


def _copied(context: CollectContext, pid: int, line: MapsLine) -> int:
    copy = os.memfd_create("ckpt-copy", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    done: set[tuple[int, int]] = set()
    read: list[tuple[int, int]] = []
    guarded: set[int] = set()
    for task in context.tasks:
        for other in procfs.maps(task.pid):
            at, size = other.offset, other.end - other.start
            if not other.shared or _key(other) != _key(line) or (at, size) in done:
                continue
            done.add((at, size))
            with Memory(task.pid) as memory:
                for offset, length in _resident(task, other):
                    for place, data in _parts(memory, other.start + offset, length):
                        first = place - other.start + at
                        if data is None:
                            guarded.add(first)
                        else:
                            os.pwrite(copy, data, first)
                            read.append((first, first + len(data)))
    for hidden in guarded:
        if not any(start <= hidden < end for start, end in read):
            reason = "is shared memory with guard pages, beneath which this user cannot look"
            context.refuse(pid, f"vma {line.start:x}-{line.end:x}", reason, "run ckpt as root")
            break
    os.ftruncate(copy, max(at + size for at, size in done))
    return copy


def _parts(memory: Memory, start: int, length: int) -> Iterator[tuple[int, bytes | None]]:
    """Address and bytes of what can be read: all of it, or page for page; None for guard pages."""
    try:
        yield start, memory.read(start, length)
    except KernelError:
        for page in range(start, start + length, uapi.PAGE_SIZE):
            try:
                yield page, memory.read(page, uapi.PAGE_SIZE)
            except KernelError:
                yield page, None


def _resident(task: FrozenTaskLike, line: MapsLine) -> Iterator[tuple[int, int]]:
    """(offset, length) in bytes of a mapping's parts that hold data: reading a hole would fill it in the task."""
    remote = task.remote()
    step = remote.scratch_size // 2 * uapi.PAGE_SIZE
    everything = mapped.swap_in_use()
    for offset in range(0, line.end - line.start, step):
        length = min(step, line.end - line.start - offset)
        nr_pages = length // uapi.PAGE_SIZE
        pages = b"\1" * nr_pages
        if not everything:
            vector = remote.put(bytes(nr_pages))
            remote.syscall(uapi.SYS_mincore, line.start + offset, length, vector)
            pages = bytes(bit & 1 for bit in remote.read(vector, nr_pages))
        at = 0
        while (at := pages.find(1, at)) >= 0:
            end = pages.find(0, at)
            end = end if end >= 0 else nr_pages
            yield offset + at * uapi.PAGE_SIZE, (end - at) * uapi.PAGE_SIZE
            at = end
