"""epoll_create1(2). Watches are keyed by file and descriptor number, so the task itself adds them.

The number may by now be closed or refer to another file while the watched description lives on elsewhere in
the tree; kcmp finds it, and at the restore it stands at its number just long enough to be added.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import select
import stat
import struct
from dataclasses import replace
from functools import partial

from ckpt.errors import KernelError, RestoreError, Unsupported
from ckpt.kernel import epoll_queue, uapi, uapi_files
from ckpt.kernel.descriptors import kcmp
from ckpt.kernel.libc import syscall
from ckpt.records.base import Record
from ckpt.records.file_kinds import EpollFile, EpollWatch
from ckpt.records.files import FileRecord
from ckpt.records.seams import RemoteTask
from ckpt.records.support import Support
from ckpt.state.context import CollectContext, RestoreContext
from ckpt.state.files import channel
from ckpt.state.files.base import FileView
from ckpt.state.files.registry import registry

SUPPORT = Support(
    "pipes",
    "epoll",
    "watches with all flags, nested, edges that were reported",
    lost="without CAP_BPF, that an edge was reported while another watch waits: it comes twice",
)


# Each costs some 20 µs in the freeze; beyond, an edge may come twice, which programs must expect anyhow.
_EDGES_LOOKED_AT = 1000


_SETS = "epoll:sets"  # restoring: pid -> the sets that this task fills


class Epolls:
    """anon_inode:[eventpoll]"""

    kind = "epoll"

    def recognises(self, view: FileView) -> bool:
        return view.link == "anon_inode:[eventpoll]"

    def collect(self, view: FileView, context: CollectContext) -> Record:
        lines = view.info.get("tfd", [])
        if lines and not view.users:
            context.refuse(
                view.pid,
                view.subject,
                "is an epoll instance in flight inside a socket",
                "let the receiver take it",
            )
            return EpollFile(0, -1, ())
        pid, efd = view.users[0] if view.users else (0, -1)
        watches = []
        seen: dict[int, int] = {}
        for line in lines:  # "3 events: 80000019 data: 3  pos:0 ino:12 sdev:10"
            f = line.replace(":", ": ").split()
            tfd, events, data = int(f[0]), int(f[2], 16), int(f[4], 16)
            inode = int(f[8], 16)
            index = seen[tfd] = seen.get(tfd, -1) + 1
            found = _target(context, view, (pid, efd), tfd, index, inode)
            if found is None:
                context.refuse(
                    view.pid,
                    view.subject,
                    f"watches a file (once fd {tfd}) which no descriptor of the tree holds",
                    "let the task remove the watch before the dump",
                )
                continue
            watches.append(EpollWatch(tfd, found[0], events, data, found[1]))
        edges = [w for w in watches if w.events & uapi_files.EPOLLET]
        if 0 < len(edges) <= _EDGES_LOOKED_AT and (waiting := _waiting(view, context)) is not None:
            # An edge-triggered file that is ready, and does not wait in the set, has been reported.
            views = registry(context).views
            quiet = [w for w in edges if (w.tfd, w.data) not in waiting]
            taken = {w for w in quiet if _events(views[w.file_id], context, w.events & ~uapi_files.EP_PRIVATE_BITS)}
            watches = [replace(w, taken=w in taken) for w in watches]
        return EpollFile(pid, efd, tuple(watches), _busy_poll(view, context))

    def restore(self, file: FileRecord, context: RestoreContext) -> int:
        payload: EpollFile = file.payload
        if payload.watches:
            sets: dict[int, list[FileRecord]] = context.shared.setdefault(_SETS, {})
            if payload.pid not in sets:
                context.when_installed(payload.pid, partial(_fill, context, payload.pid))
            sets.setdefault(payload.pid, []).append(file)
        fd = syscall("epoll_create1", uapi_files.SYS_epoll_create1, os.O_CLOEXEC)
        if payload.busy_poll:
            fcntl.ioctl(fd, uapi_files.EPIOCSPARAMS, payload.busy_poll)
        return fd


def _busy_poll(view: FileView, context: CollectContext) -> bytes:
    try:
        with view.stolen(context) as fd:
            params = fcntl.ioctl(fd, uapi_files.EPIOCGPARAMS, bytes(8))
    except OSError:  # before Linux 6.9
        return b""
    return params if any(params) else b""


def _waiting(view: FileView, context: CollectContext) -> set[tuple[int, int]] | None:
    """(number, data) of the watches that wait to be reported; None where that cannot be seen."""
    if not _events(view, context, uapi_files.EPOLLIN):
        return set()
    try:
        with view.stolen(context) as fd:
            return epoll_queue.waiting(fd)
    except (KernelError, Unsupported):
        return None


def _events(view: FileView, context: CollectContext, wanted: int) -> int:
    """What poll(2) says of a file at this moment."""
    with view.stolen(context) as fd:
        poll = select.poll()
        poll.register(fd, wanted & 0x7FFF)
        return dict(poll.poll(0)).get(fd, 0)


def _target(
    context: CollectContext,
    view: FileView,
    holder: tuple[int, int],
    tfd: int,
    index: int,
    inode: int,
) -> tuple[int, bool] | None:
    """(file_id, whether it still stands at `tfd` in the holder's table) of a watched description."""
    known = registry(context)
    pid, efd = holder
    slot = (ctypes.c_uint32 * 3)(efd, tfd, index)  # struct kcmp_epoll_slot
    at_number = known.numbers.get((pid, tfd))
    if at_number is not None:
        there = known.views[at_number]
        # A socket has one description: its inode number says it all. kcmp walks the whole set.
        certain = stat.S_ISSOCK(there.stat.st_mode) and there.stat.st_ino == inode and not index
        if certain or _is_watched(there, pid, slot):
            return at_number, True
    for other in _with_inode(context, inode):
        held = other.users or other.in_flight_of
        if other.file_id != at_number and held and _is_watched(other, pid, slot):
            return other.file_id, False
    return None


def _is_watched(view: FileView, pid: int, slot: ctypes.Array[ctypes.c_uint32]) -> bool:
    user_pid, user_fd = view.users[0] if view.users else (view.pid, view.fd)  # in flight: ckpt's own
    try:
        return not kcmp(user_pid, pid, uapi.KCMP_EPOLL_TFD, user_fd, ctypes.addressof(slot))
    except KernelError as error:
        if error.errno in (errno.EINVAL, errno.ENOSYS):  # before 4.13: the number has to do
            return slot[1] == user_fd
        return False


def _with_inode(context: CollectContext, inode: int) -> list[FileView]:
    views = registry(context).views
    index: dict[int, list[FileView]] = context.shared.setdefault("epoll:by-inode", {})
    if context.shared.get("epoll:views-seen") != len(views):
        context.shared["epoll:views-seen"] = len(views)
        index.clear()
        for view in views.values():
            index.setdefault(view.stat.st_ino, []).append(view)
    return index.get(inode, [])


def _fill(context: RestoreContext, pid: int, task: RemoteTask) -> None:
    """All sets of one task. One inside another is filled first, or it would tell the outer one of an edge once more."""
    for file in sorted(context.shared[_SETS][pid], key=partial(_depth, context)):
        _add_all(context, file.payload, task)


def _depth(context: RestoreContext, file: FileRecord) -> int:
    """How many sets are inside each other (the kernel allows five, and no circle)."""
    inner = (context.files[watch.file_id] for watch in file.payload.watches)
    return 1 + max((_depth(context, one) for one in inner if one.kind == KIND.kind), default=0)


def _add_all(context: RestoreContext, payload: EpollFile, task: RemoteTask) -> None:
    # A one-shot watch that has fired is off until it is armed again. The kernel arms what is added, so such a
    # watch is added first, alone, and made to fire into nothing.
    spent = [w for w in payload.watches if not w.events & ~uapi_files.EP_PRIVATE_BITS]
    # Next those whose edge was reported: while they are alone with what cannot fire, it is taken again.
    taken = [w for w in payload.watches if w.taken]
    others = [w for w in payload.watches if w.events & ~uapi_files.EP_PRIVATE_BITS and not w.taken]
    for watches in (spent, taken, others):
        for watch in watches:
            try:
                _add(context, payload, watch, task, fire=watches is spent)
            except KernelError as error:
                raise RestoreError(
                    f"task {task.pid}: epoll fd {payload.fd} cannot watch fd {watch.tfd} again: {error.message}"
                ) from None
        if watches is taken:
            _take(task, payload.fd, len(taken))


def _take(task: RemoteTask, efd: int, most: int) -> None:
    """Let up to `most` events be reported, and forget them; a batch is what fits the scratch buffer."""
    size = 12  # struct epoll_event, packed on x86_64
    room = task.put(bytes(size))
    batch = task.scratch_size // size
    while most > 0 and (count := task.syscall(uapi.SYS_epoll_wait, efd, room, min(most, batch), 0)):
        most -= count


def _add(context: RestoreContext, payload: EpollFile, watch: EpollWatch, task: RemoteTask, *, fire: bool) -> None:
    number = watch.tfd
    aside = -1
    if not watch.in_table:
        held = {d.fd for d in context.tables[payload.pid].fds}
        if number in held:
            aside = task.syscall(uapi.SYS_dup, number)
        came = channel.deliver(context, task, watch.file_id)
        if came != number:
            channel.move(task, came, number, True)
    _control(task, payload.fd, uapi_files.EPOLL_CTL_ADD, watch, watch.events)
    if fire:
        always = uapi_files.EPOLLIN | uapi_files.EPOLLOUT | uapi_files.EPOLLONESHOT
        _control(task, payload.fd, uapi_files.EPOLL_CTL_MOD, watch, always | watch.events)
        room = task.put(bytes(16), 64)
        if not task.syscall(uapi.SYS_epoll_wait, payload.fd, room, 1, 0):
            _control(task, payload.fd, uapi_files.EPOLL_CTL_MOD, watch, watch.events)
    if aside >= 0:
        cloexec = next(d.cloexec for d in context.tables[payload.pid].fds if d.fd == number)
        channel.move(task, aside, number, cloexec)
    elif not watch.in_table:
        task.syscall(uapi_files.SYS_close, number)


def _control(task: RemoteTask, efd: int, operation: int, watch: EpollWatch, events: int) -> None:
    event = task.put(struct.pack("<IQ", events, watch.data))  # packed on x86_64
    task.syscall(uapi.SYS_epoll_ctl, efd, operation, watch.tfd, event)


KIND = Epolls()
