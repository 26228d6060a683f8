"""Shared memory objects: anonymous shared memory, memfds and SysV segments, as mappings and descriptors show them."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from functools import cache

from ckpt.errors import KernelError
from ckpt.kernel import mapped, procfs, uapi, uapi_files, uapi_restore
from ckpt.kernel.descriptors import open_magic
from ckpt.kernel.procfs import MapsLine
from ckpt.records.mm import ShmRecord
from ckpt.records.support import Support
from ckpt.state.context import CollectContext
from ckpt.state.files import paths
from ckpt.state.files.base import FileView
from ckpt.state.sysv import collect_sysv

SUPPORT = Support(
    "memory",
    "shared memory",
    "anonymous, memfds with name, seals and attributes, SysV segments, huge pages; once for all that map it",
)

_SYSV = "/SYSV"
_MEMFD = "/memfd:"
SHARED_NAMES = ("/dev/zero (deleted)", "/anon_hugepage (deleted)", _MEMFD, _SYSV)
"""How the paths of mappings begin whose memory is an object of its own."""


def shm_key(line: MapsLine) -> str:
    """The space key of the object behind a shared mapping. The inode of a segment is its id."""
    return f"sysv:{line.ino}" if line.path.startswith(_SYSV) else f"shm:{line.dev}:{line.ino}"


def note_mapping(context: CollectContext, pid: int, line: MapsLine, magic: str) -> str:
    """Note the object behind a shared mapping in `context.shared["shm"]` (key -> ShmRecord), once; gives its key."""
    objects: dict[str, ShmRecord] = context.shared.setdefault("shm", {})
    key = shm_key(line)
    if key in objects:
        return key
    try:
        found = os.stat(magic)
        flags = _huge_flags(huge_page_size(pid, line, magic)) if "ht" in line.vm_flags else 0
        if line.path.startswith(_MEMFD):
            objects[key] = _memfd(key, line.path, found, magic, flags)
        elif line.path.startswith(_SYSV):
            collect_sysv(context, [line.ino])
            objects[key] = ShmRecord(key, found.st_size, "sysv", line.path, sysv_id=line.ino, flags=flags)
        else:
            objects[key] = ShmRecord(key, found.st_size, "anon", flags=flags)
    except (OSError, KernelError) as error:
        reason = error.message if isinstance(error, KernelError) else error.strerror
        context.refuse(
            pid,
            f"vma {line.start:x}-{line.end:x}",
            f"is shared memory, which cannot be opened: {reason}",
            "run ckpt as root",
        )
    return key


def is_object(view: FileView) -> bool:
    """Whether a descriptor, or a private mapping, is of such an object (through /proc/PID/map_files also of one that
    never had a descriptor), and not of a file whose name begins alike."""
    st = view.stat
    if not stat.S_ISREG(st.st_mode) or st.st_nlink or not view.link.startswith(SHARED_NAMES):
        return False
    return view.link.startswith(_MEMFD) or st.st_dev == _device() or os.statvfs(view.proc_path).f_bsize > uapi.PAGE_SIZE


@cache
def _device() -> int:
    """That of the kernel's own tmpfs."""
    fd = os.memfd_create("device")
    try:
        return os.fstat(fd).st_dev
    finally:
        os.close(fd)


def note_object(context: CollectContext, view: FileView) -> str:
    """Note the object behind a descriptor or a private mapping, once; gives its key."""
    st, link = view.stat, view.link
    objects: dict[str, ShmRecord] = context.shared.setdefault("shm", {})
    key = f"sysv:{st.st_ino}" if link.startswith(_SYSV) else f"shm:{st.st_dev}:{st.st_ino}"
    if key in objects:
        return key
    flags = _huge_flags(os.statvfs(view.proc_path).f_bsize)
    if link.startswith(_MEMFD):
        objects[key] = _memfd(key, link, st, view.proc_path, flags, view.file_id)
    elif link.startswith(_SYSV):
        collect_sysv(context, [st.st_ino])
        objects[key] = ShmRecord(key, st.st_size, "sysv", link, 0, flags, file_id=view.file_id, sysv_id=st.st_ino)
    else:
        objects[key] = ShmRecord(key, st.st_size, "anon", flags=flags, file_id=view.file_id)
    return key


def _memfd(key: str, link: str, st: os.stat_result, magic: str, flags: int, file_id: int | None = None) -> ShmRecord:
    name = link.removeprefix(_MEMFD).removesuffix(" (deleted)")
    return ShmRecord(
        key,
        st.st_size,
        "memfd",
        name,
        _seals(magic),
        flags,
        stat.S_IMODE(st.st_mode),
        file_id,
        uid=st.st_uid,
        gid=st.st_gid,
        xattrs=paths.extended_attributes(magic),
        atime_ns=st.st_atime_ns,
        mtime_ns=st.st_mtime_ns,
    )


def huge_page_size(pid: int, line: MapsLine, magic: str) -> int:
    """The size of a hugetlb mapping's pages. Where this user cannot follow map_files, `magic` may be a copy's."""
    return os.statvfs(magic).f_bsize if mapped.map_files_allowed() else procfs.page_size(pid, line.start)


def _huge_flags(size: int) -> int:
    """MFD_HUGETLB with the size of its pages (the same bits as MAP_HUGE_*), 0 for a file of ordinary pages."""
    if size == uapi.PAGE_SIZE:
        return 0
    return uapi_restore.MFD_HUGETLB | (size.bit_length() - 1) << uapi.MAP_HUGE_SHIFT


def _seals(magic: str) -> int:
    fd = open_magic(magic, os.O_RDONLY)
    try:
        return fcntl.fcntl(fd, uapi_files.F_GET_SEALS)
    except OSError as error:
        if error.errno == errno.EINVAL:
            return 0
        raise KernelError(f"F_GET_SEALS of {magic}: {error.strerror}", errno=error.errno or 0) from None
    finally:
        os.close(fd)
