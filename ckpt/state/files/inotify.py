"""inotify_init1(2): the watches, with paths found by file handle.

Events that nobody has read cannot be looked at without taking them; IN_Q_OVERFLOW stands for them after a restore.
"""

from __future__ import annotations

import array
import fcntl
import os
import tempfile
from functools import partial
from pathlib import Path

from ckpt.errors import KernelError, RestoreError
from ckpt.kernel import uapi_files
from ckpt.kernel.libc import syscall
from ckpt.records.base import Record
from ckpt.records.file_kinds import InotifyFile, InotifyWatch
from ckpt.records.files import FileRecord
from ckpt.records.support import Support
from ckpt.state.context import CollectContext, RestoreContext
from ckpt.state.files import watched
from ckpt.state.files.base import FileView

SUPPORT = Support(
    "pipes",
    "inotify",
    "watches",
    lost="events that wait: IN_Q_OVERFLOW takes their place; that numbers of removed watches are not given again",
)

_MOST_WATCHES_PASSED = 1 << 20


class Inotifies:
    """anon_inode:inotify"""

    kind = "inotify"

    def recognises(self, view: FileView) -> bool:
        return view.link == "anon_inode:inotify"

    def collect(self, view: FileView, context: CollectContext) -> Record:
        waiting = array.array("i", [0])
        try:
            with view.stolen(context) as fd:
                fcntl.ioctl(fd, uapi_files.FIONREAD, waiting)
        except OSError as error:
            raise KernelError(f"FIONREAD of an inotify: {error.strerror}", errno=error.errno or 0) from None
        watches = []
        for line in view.info.get("inotify wd", []):
            # "1 ino:3f7e8 sdev:fe00000 mask:fff … fhandle-bytes:8 fhandle-type:1 f_handle:e8f70300…"
            wd = int(line.split()[0], 16)
            values = dict(item.split(":", 1) for item in line.split()[1:])
            found = watched.find(context, view, values)
            if found is None:
                context.refuse(
                    view.pid,
                    view.subject,
                    f"watches a file (inode {int(values['ino'], 16)}) whose path cannot be found",
                    "run ckpt as root, or let the task remove the watch",
                )
                continue
            watches.append(InotifyWatch(wd, found[0], int(values["mask"], 16), found[1]))
        return InotifyFile(tuple(sorted(watches, key=lambda w: w.wd)), bool(waiting[0]))

    def restore(self, file: FileRecord, context: RestoreContext) -> int:
        fd = syscall("inotify_init1", uapi_files.SYS_inotify_init1, os.O_CLOEXEC | os.O_NONBLOCK)
        # Last of all, for what else is restored would be an event: hooks that are added run after those that wait.
        context.when_finished(lambda: context.when_finished(partial(_watch_all, context, file)))
        return fd


def _watch_all(context: RestoreContext, file: FileRecord) -> None:
    fd = context.opened[file.file_id]
    blocking = os.get_blocking(fd)
    os.set_blocking(fd, False)
    for watch in file.payload.watches:
        _watch(context, fd, watch)
    _drain(fd)
    if file.payload.overflow:
        _overflow(fd)
    os.set_blocking(fd, blocking)


def _watch(context: RestoreContext, fd: int, watch: InotifyWatch) -> None:
    """Add until the kernel, which counts upwards, gives the wanted number."""
    name, mask = watch.path, watch.mask | uapi_files.IN_DONT_FOLLOW
    if watch.file_id:
        name, mask = f"/proc/self/fd/{context.opened[watch.file_id]}", watch.mask
    path = os.fsencode(name) + b"\0"
    for _ in range(_MOST_WATCHES_PASSED):
        wd = syscall(f"inotify_add_watch({name})", uapi_files.SYS_inotify_add_watch, fd, path, mask)
        if wd == watch.wd:
            return
        if wd > watch.wd:
            break
        syscall("inotify_rm_watch", uapi_files.SYS_inotify_rm_watch, fd, wd)
        _drain(fd)  # the removal is an event of its own
    raise RestoreError(f"the inotify watch {watch.wd} on {name} cannot have its number again")


def _overflow(fd: int) -> None:
    """Leave IN_Q_OVERFLOW in the queue, which tells the reader that events were lost and to look for himself.

    The kernel adds it behind a full queue; what is before it, events of a file of ckpt's own, is read away.
    """
    most = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    with tempfile.TemporaryFile() as own:
        file = own.fileno()
        path = f"/proc/self/fd/{file}".encode() + b"\0"
        mask = uapi_files.IN_ACCESS | uapi_files.IN_MODIFY
        wd = syscall("inotify_add_watch", uapi_files.SYS_inotify_add_watch, fd, path, mask)
        for _ in range(most // 2 + 1):  # alternating, for equal events in a row are one
            os.pwrite(file, b"x", 0)
            os.pread(file, 1, 0)
        syscall("inotify_rm_watch", uapi_files.SYS_inotify_rm_watch, fd, wd)  # its own event no longer fits
    left = most * uapi_files.INOTIFY_EVENT_SIZE
    while left:
        left -= len(os.read(fd, min(left, 1 << 16)))


def _drain(fd: int) -> None:
    try:
        while os.read(fd, 65536):
            pass
    except BlockingIOError:
        pass


KIND = Inotifies()
