"""inotify_init1(2): the watches, with paths found by file handle. Events that nobody has read are refused."""

from __future__ import annotations

import array
import ctypes
import fcntl
import os
import re
import struct

from ckpt.errors import KernelError, RestoreError
from ckpt.kernel import procfs, uapi_files
from ckpt.kernel.libc import syscall
from ckpt.records.base import Record
from ckpt.records.file_kinds import InotifyFile, InotifyWatch
from ckpt.records.files import FileRecord
from ckpt.records.support import Support
from ckpt.state.context import CollectContext, RestoreContext
from ckpt.state.files import paths
from ckpt.state.files.base import FileView

SUPPORT = Support("pipes", "inotify", "watches")

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
        if waiting[0]:
            context.refuse(
                view.pid,
                view.subject,
                "has inotify events waiting, which cannot be restored",
                "try again when the task has read its events",
            )
        watches = []
        for line in view.info.get("inotify wd", []):
            # "1 ino:3f7e8 sdev:fe00000 mask:fff … fhandle-bytes:8 fhandle-type:1 f_handle:e8f70300…"
            wd = int(line.split()[0], 16)
            values = dict(item.split(":", 1) for item in line.split()[1:])
            path = _path(context, view.in_flight_of or view.pid, values)
            if path is None:
                context.refuse(
                    view.pid,
                    view.subject,
                    f"watches a file (inode {int(values['ino'], 16)}) whose path cannot be found",
                    "run ckpt as root; watches on overlay and pseudo file systems cannot be restored",
                )
                continue
            watches.append(InotifyWatch(wd, path, int(values["mask"], 16)))
        return InotifyFile(tuple(sorted(watches, key=lambda w: w.wd)))

    def restore(self, file: FileRecord, context: RestoreContext) -> int:
        flags = os.O_CLOEXEC | os.O_NONBLOCK
        fd = syscall("inotify_init1", uapi_files.SYS_inotify_init1, flags)
        try:
            for watch in file.payload.watches:
                _watch(fd, watch)
            _drain(fd)
        except BaseException:
            os.close(fd)
            raise
        return fd


def _watch(fd: int, watch: InotifyWatch) -> None:
    """Add until the kernel, which counts upwards, gives the wanted number."""
    path = os.fsencode(watch.path) + b"\0"
    mask = watch.mask | uapi_files.IN_DONT_FOLLOW
    for _ in range(_MOST_WATCHES_PASSED):
        wd = syscall(f"inotify_add_watch({watch.path})", uapi_files.SYS_inotify_add_watch, fd, path, mask)
        if wd == watch.wd:
            return
        if wd > watch.wd:
            break
        syscall("inotify_rm_watch", uapi_files.SYS_inotify_rm_watch, fd, wd)
        _drain(fd)  # the removal is an event of its own
    raise RestoreError(f"the inotify watch {watch.wd} on {watch.path} cannot have its number again")


def _drain(fd: int) -> None:
    try:
        while os.read(fd, 65536):
            pass
    except BlockingIOError:
        pass


def _mounts(context: CollectContext, pid: int) -> dict[int, list[str]]:
    """The device of a file system as fdinfo prints it -> its mount points."""
    known: dict[int, list[str]] | None = context.shared.get("inotify:mounts")
    if known is None:
        known = context.shared["inotify:mounts"] = {}
        for line in procfs.read_bytes(f"/proc/{pid}/mountinfo", pid).decode("utf-8", "surrogateescape").splitlines():
            f = line.split()
            major, _, minor = f[2].partition(":")
            point = re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), f[4])
            known.setdefault(int(major) << 20 | int(minor), []).append(point)
    return known


def _path(context: CollectContext, pid: int, values: dict[str, str]) -> str | None:
    handle = bytes.fromhex(values.get("f_handle", ""))
    if not handle:
        return None
    # struct file_handle
    packed = struct.pack("<Ii", len(handle), int(values["fhandle-type"], 16)) + handle
    for mount in _mounts(context, pid).get(int(values["sdev"], 16), []):  # a bind mount may show only a part
        path = _path_below(mount, packed, int(values["ino"], 16))
        if path is not None:
            return path
    return None


def _path_below(mount: str, handle: bytes, inode: int) -> str | None:
    at = fd = -1
    try:
        at = os.open(mount, os.O_RDONLY | os.O_CLOEXEC)
        buffer = ctypes.create_string_buffer(handle, len(handle))
        flags = uapi_files.O_PATH | os.O_CLOEXEC | os.O_NOFOLLOW
        fd = syscall("open_by_handle_at", uapi_files.SYS_open_by_handle_at, at, buffer, flags)
        path = os.readlink(f"/proc/self/fd/{fd}")
        found = os.fstat(fd)
        return path if found.st_ino == inode and paths.reachable(path, found) else None
    except (OSError, KernelError):
        return None
    finally:
        for one in (at, fd):
            if one >= 0:
                os.close(one)


KIND = Inotifies()
