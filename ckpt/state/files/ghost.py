"""Files and directories that lost their name: the contents travel in the image.

All descriptions of one inode (open files, mappings, the executable) share one copy. A file that was deleted
under the name by which it was opened but has another is opened by that, or by its handle (`names`).
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

from ckpt.errors import KernelError, RestoreError
from ckpt.kernel import uapi_files
from ckpt.kernel.descriptors import open_unnoticed
from ckpt.kernel.tail import write_tail
from ckpt.records.base import Record
from ckpt.records.file_kinds import GhostData, GhostFile, GhostRecord, NoPayload
from ckpt.records.files import FileRecord
from ckpt.records.runs import pieces
from ckpt.records.support import Support
from ckpt.state.context import CollectContext, RestoreContext
from ckpt.state.files import names, paths, regular
from ckpt.state.files.base import FileView

SUPPORT = Support(
    "files",
    "deleted files",
    "contents (up to `--ghost-limit`, any size when mapped), holes, hard links, attributes",
    lost="what chattr has set; in /proc/PID/fd, the old name of one that has another or whose name is another file's",
)

_CHUNK = 1 << 18


@dataclass
class _Made:
    """A rebuilt file: ckpt's own descriptor, and the one that O_TMPFILE made while nobody took it."""

    fd: int
    tmpfile: int = -1

    def close(self) -> None:
        """Close what is left; safe to call twice."""
        for fd in (self.fd, self.tmpfile):
            if fd >= 0:
                os.close(fd)
        self.fd = self.tmpfile = -1


class GhostFiles:
    """Regular files and directories that were deleted."""

    kind = "ghost"

    def recognises(self, view: FileView) -> bool:
        mode = view.stat.st_mode
        return (
            (stat.S_ISREG(mode) or stat.S_ISDIR(mode))
            and view.link.startswith("/")
            and view.link.endswith(paths.DELETED)
            and not view.link.startswith(("/memfd:", "/secretmem"))
            and not paths.reachable(view.link, view.stat)
        )

    def collect(self, view: FileView, context: CollectContext) -> Record:
        st = view.stat
        path = paths.without_deleted(view.link)
        if stat.S_ISREG(st.st_mode) and st.st_nlink:
            other = names.other_name(view, context)
            if other is not None:
                return regular.path_payload(view, other)
            handle = None if view.magic else names.handle_of(view)
            if handle is not None:
                return replace(regular.path_payload(view, path), handle=handle)
            if view.flags & os.O_ACCMODE != os.O_RDONLY:
                context.refuse(
                    view.pid,
                    view.subject,
                    "is deleted under this name but still has another, which ckpt cannot find",
                    "run ckpt as root, remove the other name, or let the task open the file by it",
                )
                return NoPayload()
        key = f"{st.st_dev}:{st.st_ino}"
        noted: set[str] = context.shared.setdefault("ghost:keys", set())
        if key not in noted:
            limit = context.options.ghost_limit
            mapped = stat.S_ISREG(st.st_mode) and (st.st_ino, view.link) in context.shared.get("mm:mapped", ())
            if stat.S_ISREG(st.st_mode) and not mapped and st.st_blocks * 512 > limit and st.st_size > limit:
                context.refuse(
                    view.pid,
                    view.subject,
                    f"is deleted and holds {st.st_size} bytes; at most {limit} may be kept in the image",
                    "raise the limit with --ghost-limit",
                )
                return NoPayload()
            noted.add(key)
            context.records.append(record_of(view, key, path))
            if mapped:  # memory of the task, of whatever size: its pages travel as pages
                context.shared.setdefault("contents", {})[space(key)] = view.file_id
            elif stat.S_ISREG(st.st_mode):
                context.records.extend(contents(view, key))
        return GhostFile(key, bool(view.flags & uapi_files.O_TMPFILE_BIT))

    def restore(self, file: FileRecord, context: RestoreContext) -> int:
        if file.payload.RECORD_NAME == "file-path":  # by its other name
            return regular.KIND.restore(file, context)
        payload: GhostFile = file.payload
        key = f"ghost:{payload.key}"
        if key not in context.shared:
            context.shared[key] = _make(payload, context)
        made: _Made = context.shared[key]
        if payload.tmpfile and made.tmpfile >= 0:
            fd, made.tmpfile = made.tmpfile, -1
            return fd
        return paths.reopen(made.fd, file.flags)


def space(key: str) -> str:
    """The space key of the contents of a mapped file."""
    return f"ghost:{key}"


def record_of(view: FileView, key: str, path: str) -> GhostRecord:
    """The record of a file whose contents travel."""
    st = view.stat
    return GhostRecord(
        key, path, st.st_mode, st.st_uid, st.st_gid, st.st_size, st.st_mtime_ns, st.st_atime_ns,
        paths.extended_attributes(view.proc_path),
    )  # fmt: skip


def contents(view: FileView, key: str) -> list[GhostData]:
    """The data of the file without its holes, in chunks that an image holds comfortably."""
    fd = open_unnoticed(view.proc_path)
    records: list[GhostData] = []
    try:
        offset, size = 0, view.stat.st_size
        while offset < size:
            try:
                offset = os.lseek(fd, offset, os.SEEK_DATA)
                end = os.lseek(fd, offset, os.SEEK_HOLE)
            except OSError as error:
                if error.errno == errno.ENXIO:  # only a hole is left
                    break
                raise
            while offset < end:
                data = os.pread(fd, min(_CHUNK, end - offset), offset)
                if not data:
                    return records
                records.append(GhostData(key, offset, data))
                offset += len(data)
    except OSError as error:
        raise KernelError(f"reading {view.link}: {error.strerror}", errno=error.errno or 0) from None
    finally:
        os.close(fd)
    return records


def _make(payload: GhostFile, context: RestoreContext) -> _Made:
    """Build the nameless file; ckpt's descriptor is closed when every description of it is open."""
    ghost: GhostRecord = next(g for g in context.view.records("ghost") if g.key == payload.key)
    try:
        if stat.S_ISDIR(ghost.mode):
            made = _Made(_nameless_directory(ghost))
        else:
            made = _nameless_file(ghost, _tmpfile_flags(ghost, context))
            os.ftruncate(made.fd, ghost.size)
            fill(made.fd, ghost, context)
    except OSError as error:
        raise RestoreError(
            f"the deleted file {ghost.path} cannot be made again: {error.strerror}",
            hint="make its directory again, or free some space",
        ) from None
    context.stack.callback(made.close)
    context.when_opened(partial(_finish, made, ghost))
    context.when_finished(partial(_set_times, context, ghost))  # to be mapped is an access
    return made


def _tmpfile_flags(ghost: GhostRecord, context: RestoreContext) -> int | None:
    """The flags of the one description that was opened with O_TMPFILE, if the file began so."""
    for file in context.files.values():
        if file.kind == GhostFiles.kind and getattr(file.payload, "tmpfile", False) and file.payload.key == ghost.key:
            return file.flags & ~os.O_ASYNC
    return None


def _finish(made: _Made, ghost: GhostRecord) -> None:
    # Late: a mode without write permission would keep a plain user from opening it, and the
    # descriptor must go before the file can be an executable.
    try:
        if (ghost.uid, ghost.gid) != (os.getuid(), os.getgid()):
            os.fchown(made.fd, ghost.uid, ghost.gid)
        os.fchmod(made.fd, stat.S_IMODE(ghost.mode))
        for name, value in ghost.xattrs:
            os.setxattr(made.fd, name, value)
    except OSError as error:
        raise RestoreError(
            f"the deleted file {ghost.path} cannot have its owner, mode and attributes again: {error.strerror}",
            hint="run ckpt as root",
        ) from None
    finally:
        made.close()


def _set_times(context: RestoreContext, ghost: GhostRecord) -> None:
    for file in context.files.values():
        if file.kind == GhostFiles.kind and getattr(file.payload, "key", "") == ghost.key:
            os.utime(f"/proc/self/fd/{context.opened[file.file_id]}", ns=(ghost.atime_ns, ghost.mtime_ns))
            return


def fill(fd: int, ghost: GhostRecord, context: RestoreContext) -> None:
    """Write what was in the file, which has its size."""
    for part in context.view.records("ghost-data"):
        if part.key == ghost.key:
            _write(fd, part.offset, part.data)
    behind = b""
    for pages, data in context.view.read(space(ghost.key)):
        for start, length, at in pieces(pages):
            _write(fd, start, data[at : at + length])
            if start < ghost.size < start + length:
                behind = bytes(data[at + ghost.size - start : at + length])
    os.ftruncate(fd, ghost.size)  # the last page may reach beyond the end
    if any(behind):
        with suppress(OSError):  # a file that cannot be mapped for writing shows nobody what is there
            write_tail(fd, ghost.size, behind)


def _write(fd: int, offset: int, data: bytes | memoryview) -> None:
    while data:
        count = os.pwrite(fd, data, offset)
        offset, data = offset + count, data[count:]


def _nameless_file(ghost: GhostRecord, tmpfile_flags: int | None) -> _Made:
    directory = paths.standing(ghost.path)
    if tmpfile_flags is not None:
        try:
            fd = os.open(directory, tmpfile_flags | os.O_CLOEXEC, 0o600)
            return _Made(paths.reopen(fd, os.O_RDWR), fd)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL):
                raise
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    return _Made(paths.make_nameless(ghost.path, lambda name: os.open(name, flags, 0o600), os.unlink))


def _nameless_directory(ghost: GhostRecord) -> int:
    def make(name: str) -> int:
        os.mkdir(name, 0o700)
        return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    return paths.make_nameless(ghost.path, make, os.rmdir)


KIND = GhostFiles()
