"""Pipes and FIFOs with what waits in them.

A pipe whose other end is held outside the tree is
refused, unless `--ext-pipe` asks for the tree's own side of it: poll tells when nobody in the tree holds the other
side, and the scan made before the freeze tells the rest.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import stat
from dataclasses import dataclass, field
from functools import partial

from ckpt.errors import KernelError, RestoreError
from ckpt.kernel import uapi_files
from ckpt.records.base import Record
from ckpt.records.file_kinds import Handle, PipeEnd, PipeRecord
from ckpt.records.files import FileRecord
from ckpt.records.support import Support
from ckpt.state.context import CollectContext, RestoreContext
from ckpt.state.files import names, paths, pipedata
from ckpt.state.files.base import FileView
from ckpt.state.files.registry import registry

SUPPORT = Support(
    "pipes",
    "pipes, FIFOs",
    "contents, size, packets; with `--ext-pipe` the tree's side of a pipe to the outside",
    lost="the rest of a write that waits for room with a part of it done: it returns that part, as after a signal "
    "(a socket's and a terminal's too, and what recv with MSG_WAITALL has got); where packets end in a pipe that was "
    "switched to O_DIRECT and back, or that they were spliced into; the size of a pipe that holds more than "
    "that, as one into which a socket was spliced may, where memory is short: it is larger",
)

_OUTSIDE_HINT = "dump with --ext-pipe: restore then takes ckpt's own stdin, stdout and stderr, or --inherit-fd"


def pipe_users() -> dict[int, set[int]]:
    """The processes that have each anonymous pipe open, ckpt not among them, by the pipe's inode.

    Looks at all of /proc: call it before the freeze and put the result in `context.shared["pipe:users"]`. Who is in the
    tree shows in the freeze. Processes that this user may not look into are passed over.
    """
    users: dict[int, set[int]] = {}
    for pid in (int(name) for name in os.listdir("/proc") if name.isdigit()):
        for inode in _pipes_of(pid) if pid != os.getpid() else ():
            users.setdefault(inode, set()).add(pid)
    return users


def _pipes_of(pid: int) -> set[int]:
    """The inodes of the anonymous pipes that a process has open."""
    inodes: set[int] = set()
    with contextlib.suppress(OSError):  # it has ended, or is another user's
        for fd in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                link = os.readlink(f"/proc/{pid}/fd/{fd}")
                if link.startswith("pipe:["):
                    inodes.add(int(link[6:-1]))
    return inodes


@dataclass
class _Made:
    """A rebuilt pipe: a descriptor for both directions, and the ends of pipe2 that nobody took yet."""

    both: int
    ends: dict[int, int]  # by access mode
    unmet: dict[int, int] = field(default_factory=dict)  # readers that must not have met a writer: fd -> flags

    def unmet_reader(self, flags: int) -> int:
        """A reader that takes its place when no writer is left."""
        fd = paths.reopen(self.both, os.O_RDONLY | os.O_NONBLOCK)
        self.unmet[fd] = flags & ~os.O_DIRECT | os.O_NONBLOCK
        return fd

    def close(self) -> None:
        """Close what is left; safe to call twice."""
        while self.ends:
            os.close(self.ends.popitem()[1])
        if self.both >= 0:
            fd, self.both = self.both, -1
            os.close(fd)

    def open_unmet(self) -> None:
        """Put the readers that met no writer in their places, when the last that could write is closed."""
        while self.unmet:
            fd, flags = self.unmet.popitem()
            reader = paths.reopen(fd, flags)
            os.dup2(reader, fd, inheritable=False)
            os.close(reader)


class Pipes:
    """Both ends of anonymous pipes, and FIFOs."""

    kind = "pipe"

    def recognises(self, view: FileView) -> bool:
        return stat.S_ISFIFO(view.stat.st_mode) and not view.flags & uapi_files.O_PATH

    def collect(self, view: FileView, context: CollectContext) -> Record:
        st = view.stat
        key = f"{st.st_dev}:{st.st_ino}"
        fifo = not view.link.startswith("pipe:[")
        with view.stolen(context) as stolen:
            outside = not fifo and _held_outside(view, stolen, context)
            if outside and not context.options.ext_pipe:
                context.refuse(view.pid, view.subject, "is a pipe to a process outside the tree", _OUTSIDE_HINT)
                return PipeEnd(key)
            noted: set[str] = context.shared.setdefault("pipe:keys", set())
            if key not in noted:
                noted.add(key)
                context.records.append(_record(view, key, fifo, outside, stolen, context))
            return PipeEnd(key, fifo and _unmet(view, stolen, context))

    def restore(self, file: FileRecord, context: RestoreContext) -> int:
        payload: PipeEnd = file.payload
        name = f"pipe:{payload.key}"
        if name not in context.shared:
            context.shared[name] = _make(payload.key, context)
        made: _Made = context.shared[name]
        if payload.unmet:
            return made.unmet_reader(file.flags)
        # What pipe2 made lacks O_LARGEFILE, which open always sets.
        if not file.flags & uapi_files.O_LARGEFILE and file.flags & os.O_ACCMODE in made.ends:
            return made.ends.pop(file.flags & os.O_ACCMODE)
        # Without O_NONBLOCK the open of one end waits for the other; O_DIRECT is refused by open. Both are
        # set by the caller with F_SETFL.
        return paths.reopen(made.both, file.flags & ~os.O_DIRECT | os.O_NONBLOCK)


def _held_outside(view: FileView, stolen: int, context: CollectContext) -> bool:
    users = context.shared.get("pipe:users", {}).get(view.stat.st_ino, set())
    if any(view.stat.st_ino in _pipes_of(pid) for pid in users.difference(task.pid for task in context.tasks)):
        return True  # one of the tree that has ended since has no pipe any more
    access = view.flags & os.O_ACCMODE
    ends = {flags & os.O_ACCMODE for flags in _flags(view, context)}
    if access == os.O_RDONLY and not ends & {os.O_WRONLY, os.O_RDWR}:
        return not _hung_up(stolen, select.POLLHUP)  # there is a writer, and none in the tree
    if access == os.O_WRONLY and not ends & {os.O_RDONLY, os.O_RDWR}:
        return not _hung_up(stolen, select.POLLERR)
    return False


def _unmet(view: FileView, stolen: int, context: CollectContext) -> bool:
    """A reader of a FIFO without writers, of whom it has seen none: poll(2) shows no POLLHUP until one has left."""
    ends = {flags & os.O_ACCMODE for flags in _flags(view, context)}
    return ends == {os.O_RDONLY} and not _hung_up(stolen, select.POLLHUP)


def _hung_up(fd: int, sign: int) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(dict(poll.poll(0)).get(fd, 0) & sign)


def _flags(view: FileView, context: CollectContext) -> set[int]:
    """The flags of every description in the tree of this pipe or FIFO."""
    known = registry(context)
    pipes: dict[tuple[int, int], set[int]] = context.shared.setdefault("pipe:flags", {})
    if len(known.views) != context.shared.get("pipe:views-seen"):
        context.shared["pipe:views-seen"] = len(known.views)
        pipes.clear()
        for other in known.views.values():
            if stat.S_ISFIFO(other.stat.st_mode):
                pipes.setdefault((other.stat.st_dev, other.stat.st_ino), set()).add(other.flags)
    return pipes.get((view.stat.st_dev, view.stat.st_ino), {view.flags})


def _record(view: FileView, key: str, fifo: bool, outside: bool, stolen: int, context: CollectContext) -> PipeRecord:
    st = view.stat
    try:
        capacity = fcntl.fcntl(stolen, uapi_files.F_GETPIPE_SZ)
        total = pipedata.waiting(stolen)
        # What a process outside is to read stays where it is.
        ours = not outside or any(f & os.O_ACCMODE != os.O_WRONLY for f in _flags(view, context))
        chunks, apart = pipedata.peek(view.link, stolen, capacity, total) if total and ours else ([], False)
    except OSError as error:
        raise KernelError(f"reading {view.link}: {error.strerror}", errno=error.errno or 0) from None
    packets = (len(chunks) > 1 and not apart) or any(f & os.O_DIRECT for f in _flags(view, context))
    path, deleted, handle = _place(view, context) if fifo else ("", False, None)
    return PipeRecord(
        key, path, deleted, st.st_mode, st.st_uid, st.st_gid, capacity, packets, tuple(chunks), outside, handle,
        st.st_mtime_ns, st.st_atime_ns, apart and not packets,
    )  # fmt: skip


def _place(view: FileView, context: CollectContext) -> tuple[str, bool, Handle | None]:
    """(path, whether it has no name any more, the handle to open it by) of a FIFO."""
    if paths.reachable(view.link, view.stat):
        return view.link, False, None
    path = paths.without_deleted(view.link)
    if not view.stat.st_nlink:
        return path, True, None
    other = names.other_name(view, context)
    if other is not None:
        return other, False, None
    handle = names.handle_of(view)
    return path, handle is None, handle


def _make(key: str, context: RestoreContext) -> _Made:
    """The rebuilt pipe; filled when every end is open."""
    pipe: PipeRecord = next(p for p in context.view.records("pipe") if p.key == key)
    try:
        made = _Made(_fifo(pipe), {}) if pipe.path else _anonymous(pipe)
        if fcntl.fcntl(made.both, uapi_files.F_GETPIPE_SZ) != pipe.capacity:
            fcntl.fcntl(made.both, uapi_files.F_SETPIPE_SZ, pipe.capacity)
    except OSError as error:
        raise RestoreError(
            f"the pipe {pipe.path or key} cannot be made again: {error.strerror}",
            hint="raise /proc/sys/fs/pipe-max-size, or put the FIFO back",
        ) from None
    context.stack.callback(made.close)
    context.when_opened(partial(_fill, made, pipe))
    context.when_finished(partial(_set_times, context, pipe))
    return made


def _anonymous(pipe: PipeRecord) -> _Made:
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    if (pipe.uid, pipe.gid) != (os.getuid(), os.getgid()):
        os.fchown(read_end, pipe.uid, pipe.gid)
    if stat.S_IMODE(pipe.mode) != stat.S_IMODE(os.fstat(read_end).st_mode):
        os.fchmod(read_end, stat.S_IMODE(pipe.mode))
    both = paths.reopen(read_end, os.O_RDWR | os.O_NONBLOCK)
    return _Made(both, {os.O_RDONLY: read_end, os.O_WRONLY: write_end})


def _fifo(pipe: PipeRecord) -> int:
    if not pipe.deleted:
        flags = os.O_RDWR | os.O_NONBLOCK
        handle = pipe.handle
        fd = paths.open_path(pipe.path, flags) if handle is None else names.open_handle(handle, pipe.path, flags)
        if not stat.S_ISFIFO(os.fstat(fd).st_mode):
            os.close(fd)
            raise RestoreError(f"{pipe.path} was a FIFO at the dump and is none now", hint="make the FIFO again")
        return fd

    def make(name: str) -> int:
        os.mkfifo(name, 0o600)
        return os.open(name, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

    fd = paths.make_nameless(pipe.path, make, os.unlink)
    os.fchown(fd, pipe.uid, pipe.gid)
    os.fchmod(fd, stat.S_IMODE(pipe.mode))
    return fd


def _fill(made: _Made, pipe: PipeRecord) -> None:
    try:
        # A FIFO that somebody outside keeps open still holds what was in it.
        if not (pipe.path and pipedata.waiting(made.both)):
            pipedata.put(made.both, pipe.chunks, packets=pipe.packets, apart=pipe.apart)
    except OSError as error:
        raise RestoreError(
            f"the contents of the pipe {pipe.path or pipe.key} cannot be written back: {error.strerror}",
            hint="raise /proc/sys/fs/pipe-max-size, or restore as root",
        ) from None
    finally:
        made.close()
    made.open_unmet()


def _set_times(context: RestoreContext, pipe: PipeRecord) -> None:
    for file in context.files.values():
        if isinstance(file.payload, PipeEnd) and file.payload.key == pipe.key and pipe.mtime_ns:
            with contextlib.suppress(OSError):  # a FIFO of another owner
                os.utime(f"/proc/self/fd/{context.opened[file.file_id]}", ns=(pipe.atime_ns, pipe.mtime_ns))
            return


KIND = Pipes()
