"""O_PATH descriptors of what no path leads to.

Either the tree has the same file open otherwise (a pipe, a socket, an eventfd, reached through /proc/PID/fd), or it was
a FIFO, socket, device or symbolic link that has lost its name, which is made again, and nameless again.
"""

from __future__ import annotations

import os
import socket
import stat

from ckpt.errors import RestoreError
from ckpt.kernel import uapi_files
from ckpt.records.base import Record
from ckpt.records.file_kinds import NoPayload, PlaceFile
from ckpt.records.files import FileRecord
from ckpt.records.support import Support
from ckpt.state.context import CollectContext, RestoreContext
from ckpt.state.files import paths
from ckpt.state.files.base import FileView
from ckpt.state.files.registry import registry

SUPPORT = Support("files", "O_PATH alone", "of deleted FIFOs, sockets, devices and links, of pipes and sockets")


class Places:
    """The place of a file that is open, or of a node that was deleted."""

    kind = "place"

    def recognises(self, view: FileView) -> bool:
        if not view.flags & uapi_files.O_PATH:
            return False
        return not view.link.startswith("/") or not (view.stat.st_nlink or paths.reachable(view.link, view.stat))

    def collect(self, view: FileView, context: CollectContext) -> Record:
        st = view.stat
        for other in registry(context).views.values():
            same = (other.stat.st_dev, other.stat.st_ino, other.link) == (st.st_dev, st.st_ino, view.link)
            if same and not other.flags & uapi_files.O_PATH and not other.magic:
                return PlaceFile(other.file_id)
        if not view.link.startswith("/") or stat.S_ISREG(st.st_mode) or stat.S_ISDIR(st.st_mode):
            reason = "is an O_PATH descriptor of something that no task of the tree has open"
            context.refuse(view.pid, view.subject, reason, "close it before the dump")
            return NoPayload()
        target = ""
        if stat.S_ISLNK(st.st_mode):
            with view.stolen(context) as fd:
                target = os.readlink("", dir_fd=fd)
        path = paths.without_deleted(view.link)
        return PlaceFile(0, f"{st.st_dev}:{st.st_ino}", path, st.st_mode, st.st_rdev, target, st.st_uid, st.st_gid)

    def restore(self, file: FileRecord, context: RestoreContext) -> int:
        payload: PlaceFile = file.payload
        if payload.file_id:
            return _when_open(payload.file_id, file.flags, context)
        key = f"place:{payload.key}"
        if key not in context.shared:
            try:
                context.shared[key] = paths.make_nameless(payload.path, lambda name: _node(payload, name), os.unlink)
            except OSError as error:
                raise RestoreError(
                    f"{payload.path}, deleted, cannot be made again: {error.strerror}", hint="run ckpt as root"
                ) from None
            context.stack.callback(os.close, context.shared[key])
        return os.open(f"/proc/self/fd/{context.shared[key]}", _flags(file))


def _flags(file: FileRecord) -> int:
    return file.flags & ~(os.O_NOFOLLOW | os.O_DIRECTORY) | os.O_CLOEXEC


def _when_open(file_id: int, flags: int, context: RestoreContext) -> int:
    fd = os.open("/", uapi_files.O_PATH | os.O_CLOEXEC)

    def place() -> None:
        found = paths.reopen(context.opened[file_id], flags)
        os.dup2(found, fd, inheritable=False)
        os.close(found)

    context.when_opened(place)
    return fd


def _node(payload: PlaceFile, name: str) -> int:
    if stat.S_ISLNK(payload.mode):
        os.symlink(payload.target, name)
    elif stat.S_ISSOCK(payload.mode):
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(name)
    else:
        os.mknod(name, payload.mode, payload.rdev)
    fd = os.open(name, uapi_files.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    os.chown(name, payload.uid, payload.gid, follow_symlinks=False)
    if not stat.S_ISLNK(payload.mode):
        os.chmod(name, stat.S_IMODE(payload.mode))
    return fd


KIND = Places()
