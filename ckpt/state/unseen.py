"""Mapped memory that no path leads to for this user: what map_files would show is read through a mapping.

Without CAP_CHECKPOINT_RESTORE an anonymous shared mapping, or a deleted file that is only mapped, cannot be opened.
In the freeze its contents are copied into a memfd of ckpt's own, and that stands for it, with the owner and mode of
the copy. A mapping shows but a part of its object, and hides what guard pages cover: the task maps the whole of it
once more for that moment.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from ckpt.errors import KernelError
from ckpt.kernel import mapped, procfs, uapi
from ckpt.kernel.memory import Memory
from ckpt.kernel.procfs import MapsLine
from ckpt.records.seams import LiveTask
from ckpt.state.context import CollectContext, FrozenTaskLike
from ckpt.state.mm_modes import hole
from ckpt.state.shm import SHARED_NAMES

_STEP = 4 << 20  # bytes read at once
_LARGEST = 1 << 44


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
    fd = os.memfd_create("ckpt-copy", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    copy, views = _Copy(fd, line), list(_views(context, line))
    extent = max(other.offset + other.end - other.start for _, other in views)
    for task, other in views:
        with suppress(KernelError):
            copy.size(_whole(task.remote(), other, extent, copy))
            return fd
    # Huge TLB pages, say, or sealed mappings: the tree can come by no more of it than is mapped.
    copy.failed.clear()
    for task, other in views:
        copy.take(task.remote(), other.start, other.end - other.start, other.offset)
    if any(not any(start <= at < end for start, end in copy.read) for at in copy.failed):
        reason = "is shared memory with guard pages, beneath which this user cannot look"
        context.refuse(pid, f"vma {line.start:x}-{line.end:x}", reason, "run ckpt as root")
    copy.size(extent)
    return fd


def _views(context: CollectContext, line: MapsLine) -> Iterator[tuple[FrozenTaskLike, MapsLine]]:
    """Every shared mapping of the object, each part of it once; in a task that can make calls."""
    done: set[tuple[int, int]] = set()
    for task in context.tasks:
        for other in procfs.maps(task.pid):
            part = other.offset, other.end - other.start
            if other.shared and not task.held and _key(other) == _key(line) and part not in done:
                done.add(part)
                yield task, other


# ---------------------------------------------------------------- the whole object


def _whole(remote: LiveTask, line: MapsLine, extent: int, copy: _Copy) -> int:
    """Copy the object behind a mapping; gives its size, in whole pages. KernelError when the task cannot map it all."""
    size = extent
    while True:
        with _window(remote, line, size + uapi.PAGE_SIZE) as at, Memory(remote.pid) as memory:
            if not _there(memory, at + size):
                size = _end(memory, at, size)
                copy.take(remote, at, size, 0)
                if copy.failed:
                    raise KernelError(f"{line.path} cannot be read at {copy.failed[0]:#x}")
                return size
        size *= 2  # mappings may show but its beginning


@contextmanager
def _window(remote: LiveTask, line: MapsLine, size: int) -> Iterator[int]:
    """The first `size` bytes of a mapping's object, mapped once more in the task; gives the address.

    mremap of nothing makes a shared mapping a second time, remap_file_pages shows another part in it. Should ckpt
    die, the thread knows what to unmap.
    """
    maps = procfs.maps(remote.pid)
    at = hole(maps)
    if size > _LARGEST or any(other.start < at + size and at < other.end for other in maps):
        raise KernelError(f"task {remote.pid} has no room for a mapping of {size} bytes")
    with remote.through(uapi.SYS_munmap, at, size):
        try:
            remote.syscall(uapi.SYS_mremap, line.start, 0, size, uapi.MREMAP_MAYMOVE | uapi.MREMAP_FIXED, at)
            if line.offset:
                remote.syscall(uapi.SYS_remap_file_pages, at, size, 0, 0, uapi.MAP_NONBLOCK)
            yield at
        finally:
            remote.syscall(uapi.SYS_munmap, at, size)


def _there(memory: Memory, address: int) -> bool:
    """Whether the object has a page there: what lies behind its end cannot be read."""
    try:
        memory.read(address, 1)
    except KernelError:
        return False
    return True


def _end(memory: Memory, at: int, extent: int) -> int:
    """The size of an object that is at most `extent` bytes large. Its last page is touched, and few others."""
    low, high = 0, extent // uapi.PAGE_SIZE  # pages; the first `low` are there, that of `high` is not
    probe = high - 1  # mostly it is as large as its mappings
    while low < high:
        if _there(memory, at + probe * uapi.PAGE_SIZE):
            low = probe + 1
        else:
            high = probe
        probe = (low + high) // 2
    return high * uapi.PAGE_SIZE


# ---------------------------------------------------------------- what a mapping shows


@dataclass
class _Copy:
    """A memfd with what could be read of the object behind `line`."""

    fd: int
    line: MapsLine
    read: list[tuple[int, int]] = field(default_factory=list)  # from and to, in bytes of the object
    failed: list[int] = field(default_factory=list)  # pages

    def take(self, remote: LiveTask, start: int, size: int, first: int) -> None:
        """What is mapped at `start`; `first`: where that is in the object."""
        with Memory(remote.pid) as memory:
            for offset, length in self._data(remote, start, size):
                for place, data in _parts(memory, start + offset, length):
                    at = place - start + first
                    if data is None:
                        self.failed.append(at)
                        continue
                    self.read.append((at, at + len(data)))
                    if data.count(0) != len(data):
                        os.pwrite(self.fd, data, at)

    def size(self, size: int) -> None:
        os.ftruncate(self.fd, size)

    def _data(self, remote: LiveTask, start: int, size: int) -> Iterator[tuple[int, int]]:
        """(offset, length) in bytes of the parts that hold data: reading a hole of shared memory would fill it.

        mincore knows what lies in memory, of a file on a disk that is not all; and of huge TLB pages only those that
        this task has touched.
        """
        inside = self.line.path.startswith(SHARED_NAMES) or mapped.on_tmpfs(self.line.dev)
        if not inside or "ht" in self.line.vm_flags or mapped.swap_in_use():
            yield 0, size
            return
        step = remote.scratch_size // 2 * uapi.PAGE_SIZE
        for offset in range(0, size, step):
            nr_pages = min(step, size - offset) // uapi.PAGE_SIZE
            vector = remote.put(bytes(nr_pages))
            remote.syscall(uapi.SYS_mincore, start + offset, nr_pages * uapi.PAGE_SIZE, vector)
            pages = bytes(bit & 1 for bit in remote.read(vector, nr_pages))
            at = 0
            while (at := pages.find(1, at)) >= 0:
                end = pages.find(0, at)
                end = end if end >= 0 else nr_pages
                yield offset + at * uapi.PAGE_SIZE, (end - at) * uapi.PAGE_SIZE
                at = end


def _parts(memory: Memory, start: int, length: int) -> Iterator[tuple[int, bytes | None]]:
    """Address and bytes of what can be read: all of it, or page for page; None for guard pages."""
    for at in range(start, start + length, _STEP):
        part = min(_STEP, start + length - at)
        try:
            yield at, memory.read(at, part)
        except KernelError:
            for page in range(at, at + part, uapi.PAGE_SIZE):
                try:
                    yield page, memory.read(page, uapi.PAGE_SIZE)
                except KernelError:
                    yield page, None
