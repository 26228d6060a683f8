"""fanotify_init(2): a group's flags and its marks on inodes, mounts and file systems.

A group that decides about accesses is refused: while it is frozen, whoever opens a marked file waits for it.
"""

from __future__ import annotations

import array
import fcntl
import os
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from ckpt.errors import KernelError, RestoreError
from ckpt.kernel import procfs, uapi_files
from ckpt.kernel.libc import syscall
from ckpt.kernel.standins import entry
from ckpt.records.base import Record
from ckpt.records.file_kinds import FanotifyFile, FanotifyMark
from ckpt.records.files import FileRecord
from ckpt.records.support import Support
from ckpt.state.context import CollectContext, RestoreContext
from ckpt.state.files import watched
from ckpt.state.files.base import FileView

SUPPORT = Support(
    "pipes",
    "fanotify",
    "flags, marks on inodes, mounts and file systems",
    lost="events that wait: FAN_Q_OVERFLOW takes their place",
)
_SHORT_LIVED = "/dev/shm"
_FIRST_READ = 512  # bytes, in which an event has room with all that may follow struct fanotify_event_metadata


class Fanotifies:
    """anon_inode:[fanotify]"""

    kind = "fanotify"

    def recognises(self, view: FileView) -> bool:
        return view.link == "anon_inode:[fanotify]"

    def collect(self, view: FileView, context: CollectContext) -> Record:
        group, *lines = (dict(item.split(":", 1) for item in line.split()) for line in _lines(view))
        flags, event_flags = int(group["flags"], 16), int(group["event-flags"], 16)
        if flags & uapi_files.FAN_ALL_CLASS_BITS:
            reason = "is a fanotify group that decides about accesses, and cannot be restored"
            context.refuse(view.pid, view.subject, reason, "stop the monitor first")
            return FanotifyFile(flags, event_flags, ())
        waiting = array.array("i", [0])
        try:
            with view.stolen(context) as fd:
                fcntl.ioctl(fd, uapi_files.FIONREAD, waiting)
        except OSError as error:
            raise KernelError(f"FIONREAD of a fanotify group: {error.strerror}", errno=error.errno or 0) from None
        if waiting[0] and flags & uapi_files.FAN_UNLIMITED_QUEUE:
            reason = "has fanotify events waiting in a queue without a limit, which cannot be restored"
            context.refuse(view.pid, view.subject, reason, "try again when the task has read its events")
        marks = tuple(filter(None, (_mark(view, context, line) for line in lines)))
        return FanotifyFile(flags, event_flags, marks, bool(waiting[0]))

    def restore(self, file: FileRecord, context: RestoreContext) -> int:
        payload: FanotifyFile = file.payload
        # FAN_CLOEXEC is shown by fdinfo ever after, so it must be as it was.
        fd = syscall("fanotify_init", uapi_files.SYS_fanotify_init, payload.flags, payload.event_flags)
        os.set_inheritable(fd, False)
        # Last of all, for what else is restored would be an event: hooks that are added run after those that wait.
        context.when_finished(lambda: context.when_finished(partial(_mark_all, context, file)))
        return fd


def _lines(view: FileView) -> list[str]:
    """The values of fdinfo's lines "fanotify …", as fdinfo.parse cuts them at their first colon, whole again."""
    found = []
    for key, values in view.info.items():
        if key.startswith("fanotify "):
            found += [f"{key.removeprefix('fanotify ')}:{value}" for value in values]
    return sorted(found, key=lambda line: not line.startswith("flags:"))


def _mark(view: FileView, context: CollectContext, values: dict[str, str]) -> FanotifyMark | None:
    if "ino" in values:
        kind, place = 0, watched.find(context, view, values)
    elif "mnt_id" in values:
        kind, place = uapi_files.FAN_MARK_MOUNT, _mount(view.in_flight_of or view.pid, int(values["mnt_id"], 16))
    else:
        points = watched.mounts(context, view.in_flight_of or view.pid).get(int(values["sdev"], 16), [])
        kind, place = uapi_files.FAN_MARK_FILESYSTEM, (points[0], 0) if points else None
    if place is None:
        reason = "has a fanotify mark on what cannot be found any more"
        context.refuse(view.pid, view.subject, reason, "run ckpt as root, or let the task remove the mark")
        return None
    mask, ignored = int(values["mask"], 16), int(values["ignored_mask"], 16)
    return FanotifyMark(kind, place[0], place[1], int(values["mflags"], 16), mask, ignored)


def _mount(pid: int, number: int) -> tuple[str, int] | None:
    for line in procfs.read_bytes(f"/proc/{entry(pid)}/mountinfo", pid).decode("utf-8", "surrogateescape").splitlines():
        f = line.split()
        if int(f[0]) == number:
            return watched.mount_point(f[4]), 0
    return None


def _mark_all(context: RestoreContext, file: FileRecord) -> None:
    fd = context.opened[file.file_id]
    if file.payload.overflow:
        try:
            _overflow(fd)
        except OSError as error:
            raise RestoreError(f"fanotify events that waited cannot be replaced: {error.strerror}") from None
    for mark in file.payload.marks:
        path = f"/proc/self/fd/{context.opened[mark.file_id]}" if mark.file_id else mark.path
        adding = uapi_files.FAN_MARK_ADD | mark.kind | mark.flags & uapi_files.FAN_MARK_EVICTABLE
        if mark.mask:
            _add(fd, adding, mark.mask, path)
        if mark.ignored:
            survive = mark.flags & uapi_files.FAN_MARK_IGNORED_SURV_MODIFY
            newer = mark.flags & uapi_files.FAN_MARK_IGNORE
            _add(fd, adding | survive | (newer or uapi_files.FAN_MARK_IGNORED_MASK), mark.ignored, path)
    if not file.payload.overflow:
        _drain(fd)


def _overflow(fd: int) -> None:
    """Leave FAN_Q_OVERFLOW in the queue, which tells the reader that events were lost.

    The kernel adds it behind a full queue; what is before it, events of files of ckpt's own, is read away. Equal events
    are one, so that each takes a file.
    """
    most = int(Path("/proc/sys/fs/fanotify/max_queued_events").read_text())
    with tempfile.TemporaryDirectory(dir=_SHORT_LIVED if os.path.isdir(_SHORT_LIVED) else None) as own:
        mask = uapi_files.FAN_OPEN | uapi_files.FAN_EVENT_ON_CHILD
        _add(fd, uapi_files.FAN_MARK_ADD, mask, own)
        for number in range(most + 1):
            os.close(os.open(f"{own}/{number:08}", os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        _add(fd, uapi_files.FAN_MARK_REMOVE, mask, own)
        with _not_blocking(fd):
            length = 0
            while most > 0:
                # The first read tells how long an event is; then as many as there are, so that the last one stays.
                events = list(_events(os.read(fd, min(length * most, 1 << 16) if length else _FIRST_READ)))
                length = length or events[0]
                most -= len(events)


def _add(fd: int, flags: int, mask: int, path: str) -> None:
    name = os.fsencode(path) + b"\0"
    try:
        syscall("fanotify_mark", uapi_files.SYS_fanotify_mark, fd, flags, mask, uapi_files.AT_FDCWD, name)
    except KernelError as error:
        raise RestoreError(f"the fanotify mark on {path} cannot be made again: {error.message}") from None


def _drain(fd: int) -> None:
    """Forget events that came of the restore itself."""
    with _not_blocking(fd):
        while data := os.read(fd, 65536):
            list(_events(data))


@contextmanager
def _not_blocking(fd: int) -> Iterator[None]:
    """Until a read would wait."""
    blocking = os.get_blocking(fd)
    os.set_blocking(fd, False)
    try:
        yield
    except BlockingIOError:
        pass
    finally:
        os.set_blocking(fd, blocking)


def _events(data: bytes) -> Iterator[int]:
    """The length of each event; the descriptor that it may bring is closed."""
    while data:
        length, _version, _reserved, _metadata, _mask, opened, _pid = struct.unpack_from("<IBBHQii", data)
        if opened >= 0:
            os.close(opened)
        yield length
        data = data[length:]


KIND = Fanotifies()
