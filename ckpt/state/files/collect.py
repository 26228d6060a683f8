"""Collecting open files: which descriptors share a description, which tasks a table; a record for each.

Runs in the freeze, so every fact of a descriptor is read once. Descriptions can only be the same when
everything that /proc says about them is: kcmp is asked inside such a group alone, and its order makes that a
binary search.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import struct
from collections.abc import Hashable
from dataclasses import replace

from ckpt.errors import KernelError, Unsupported
from ckpt.kernel import fdinfo, uapi, uapi_files
from ckpt.kernel.descriptors import kcmp, pidfd_of_holder, raise_descriptor_limit
from ckpt.records.files import Descriptor, FdTable, FileRecord
from ckpt.records.support import Support
from ckpt.state.context import CollectContext, FrozenTaskLike
from ckpt.state.files import kept, locks, regular
from ckpt.state.files.base import FileView
from ckpt.state.files.kinds import KINDS, PATH_KINDS
from ckpt.state.files.registry import Registry, registry

SUPPORT = Support(
    "files",
    "descriptors",
    "numbers, close-on-exec, owners and signals, descriptions shared by dup, fork and SCM_RIGHTS; "
    "tables of threads (unshare(CLONE_FILES))",
)


def collect_files(context: CollectContext) -> list[FdTable]:
    """The descriptor tables of the tree; the FileRecords go to `context.records`.

    Afterwards `table_of` gives each task's table. Refuses what no kind can restore.
    """
    raise_descriptor_limit()
    known = registry(context)
    tables: list[FdTable] = []
    for task in context.tasks:
        first = task.tids[0]
        others = [tid for tid in task.tids if tid != first and _compare(task.pid, tid, uapi.KCMP_FILES)]
        for user in (task.pid, *others):
            owner = _shares_table_with(known, user)
            known.tables[user] = user if owner is None else owner
            if owner is None and (user == task.pid or _reachable(context, task.pid, user)):
                tables.append(_collect_table(context, known, user))
    # Sockets first: they bring the descriptions in flight, which may be the other ends of pipes.
    for view in sorted(known.views.values(), key=lambda v: not stat.S_ISSOCK(v.stat.st_mode)):
        _finish(context, known, view)
    for view in list(known.views.values()):  # what those brought: now that each other end is known
        _finish(context, known, view)
    return tables


def table_of(context: CollectContext, pid: int) -> int:
    """The table_id of a task, once `collect_files` ran."""
    return registry(context).tables[pid]


def thread_tables(context: CollectContext, task: FrozenTaskLike) -> tuple[tuple[int, int], ...]:
    """(tid, table_id) of the task's threads that use another table than it, once `collect_files` ran."""
    known = registry(context).tables
    return tuple((tid, known[tid]) for tid in task.tids[1:] if known.get(tid, known[task.pid]) != known[task.pid])


def collect_mapped_file(
    context: CollectContext, pid: int, link_path: str, flags: int, same: Hashable = None, *, link: str = ""
) -> int:
    """The file_id of a file behind a magic link without a descriptor: /proc/PID/map_files/…, /proc/PID/exe.

    `flags` is the access mode that the restore needs (O_RDONLY, or O_RDWR for a shared writable mapping). `same`
    is anything equal for mappings of one file, such as device, inode and path in maps: the file is then looked
    at once. `link` is its path, when the link does not show it.
    """
    known = registry(context)
    if same is not None and (same, flags) in known.mapped_same:
        return known.mapped_same[same, flags]
    try:
        link = link or os.readlink(link_path)
        found = os.stat(link_path)
    except OSError as error:
        raise Unsupported(
            f"cannot look at {link_path}: {error.strerror}",
            errno=error.errno or 0,
            hint="run ckpt as root, or with CAP_CHECKPOINT_RESTORE",
        ) from None
    key = (found.st_dev, found.st_ino, flags, link)
    if key not in known.mapped:
        view = FileView(_next_id(known), pid, -1, link, found, flags, 0, {}, [], magic=link_path)
        known.mapped[key] = view.file_id
        known.views[view.file_id] = view
        _finish(context, known, view)
    if same is not None:
        known.mapped_same[same, flags] = known.mapped[key]
    return known.mapped[key]


def collect_stolen(context: CollectContext, pid: int, local_fd: int) -> int:
    """The file_id of a description that ckpt holds as `local_fd`, found in flight inside a socket of `pid`.

    `local_fd` must stay open until the end of the collection. But for a socket, which may bring more, the file is
    collected by `collect_files` when all are known: the other end of a pipe may be in flight, too.
    """
    known = registry(context)
    entry = fdinfo.read_fd(os.getpid(), local_fd)
    view = _view_of(known, os.getpid(), entry)
    if not view.users and view.file_id not in known.payload_done:
        view.in_flight_of = pid
        if "lock" in entry.info:
            locks.note(context, view, pid, -1, entry.info["lock"])
    if stat.S_ISSOCK(view.stat.st_mode):
        _finish(context, known, view)
    return view.file_id


def _next_id(known: Registry) -> int:
    known.next_id += 1
    return known.next_id - 1


def _shares_table_with(known: Registry, pid: int) -> int | None:
    """The task met before that uses the same table; notes this one's table when there is none."""
    low, high = 0, len(known.sorted_tables)
    while low < high:
        middle = (low + high) // 2
        order = _compare(pid, known.sorted_tables[middle], uapi.KCMP_FILES)
        if order == 0:
            return known.sorted_tables[middle]
        if order == 1:  # less
            high = middle
        else:
            low = middle + 1
    known.sorted_tables.insert(low, pid)
    return None


def _reachable(context: CollectContext, pid: int, tid: int) -> bool:
    """Whether the descriptors can be taken out of a table that only a thread has."""
    try:
        os.close(pidfd_of_holder(tid))
    except KernelError:
        reason = "has a descriptor table of its own (unshare(CLONE_FILES)), which this kernel lets nobody look into"
        context.refuse(pid, f"thread {tid}", reason, "dump it on Linux 6.9 or newer")
        return False
    return True


def _collect_table(context: CollectContext, known: Registry, pid: int) -> FdTable:
    descriptors = []
    for fd in fdinfo.numbers(pid):
        try:
            entry = fdinfo.read_fd(pid, fd)
        except KernelError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
            hint = "close it before the dump, or move a directory of its path"
            context.refuse(pid, f"fd {fd}", "has a path longer than PATH_MAX", hint)
            continue
        view = _view_of(known, pid, entry)
        view.users.append((pid, fd))
        known.numbers[pid, fd] = view.file_id
        descriptors.append(Descriptor(fd, view.file_id, entry.cloexec))
        if "lock" in entry.info:
            locks.note(context, view, pid, fd, entry.info["lock"])
    return FdTable(pid, tuple(descriptors))


def _view_of(known: Registry, pid: int, entry: fdinfo.OpenFd) -> FileView:
    """The view of this description, a new one if no descriptor seen before shares it."""
    found = entry.stat
    key = (found.st_dev, found.st_ino, entry.pos, entry.flags, entry.link)
    # A forked child mostly holds what its parent holds, at the same numbers.
    last_key, last = known.by_number.get(entry.fd, (None, None))
    if last is not None and last_key == key and not _compare(pid, last.pid, uapi.KCMP_FILE, entry.fd, last.fd):
        return last
    view = _search(known, pid, entry, known.groups.setdefault(key, []))
    known.by_number[entry.fd] = (key, view)
    return view


def _search(known: Registry, pid: int, entry: fdinfo.OpenFd, group: list[FileView]) -> FileView:
    low, high = 0, len(group)
    while low < high:
        middle = (low + high) // 2
        other = group[middle]
        order = _compare(pid, other.pid, uapi.KCMP_FILE, entry.fd, other.fd)
        if order == 0:
            return other
        if order == 1:  # less
            high = middle
        else:
            low = middle + 1
    view = FileView(_next_id(known), pid, entry.fd, entry.link, entry.stat, entry.flags, entry.pos, entry.info)
    group.insert(low, view)
    known.views[view.file_id] = view
    return view


def _compare(pid1: int, pid2: int, what: int, index1: int = 0, index2: int = 0) -> int:
    try:
        return kcmp(pid1, pid2, what, index1, index2)
    except Unsupported as error:
        raise Unsupported(
            "this kernel has no kcmp, without which shared descriptors cannot be told from separate ones",
            errno=error.errno,
            hint="use a kernel with CONFIG_KCMP (or CONFIG_CHECKPOINT_RESTORE)",
        ) from None


def _finish(context: CollectContext, known: Registry, view: FileView) -> None:
    """Let the view's kind make its payload, and add the FileRecord."""
    if view.file_id in known.payload_done:
        return
    known.payload_done.add(view.file_id)
    kinds = PATH_KINDS if view.flags & uapi_files.O_PATH else KINDS
    kind = next((kind for kind in kinds if kind.recognises(view)), None)
    if kind is None:
        context.refuse(
            view.pid,
            view.subject,
            "is of a kind that ckpt does not know, and cannot be restored",
            "close it before the dump",
        )
        return
    before = len(context.refusals)
    payload = kind.collect(view, context)
    if kind is regular.KIND:
        kept.note(view, context)
    if view.in_flight_of:  # kinds know it by ckpt's own descriptor; people by the task that will receive it
        context.refusals[before:] = [
            replace(r, pid=view.in_flight_of, subject=f"a file in flight ({view.link})")
            for r in context.refusals[before:]
        ]
    asked = _ask(context, view)
    owner: tuple[int, ...] = ()
    if stat.S_ISSOCK(view.stat.st_mode) and not view.flags & uapi_files.O_PATH:
        owner = view.stat.st_uid, view.stat.st_gid
    context.records.append(
        FileRecord(view.file_id, kind.kind, view.flags, view.pos, payload, *asked, name=view.link, socket_owner=owner)
    )


def _ask(context: CollectContext, view: FileView) -> tuple[int, int, int, int, tuple[int, ...]]:
    """F_GETOWN_EX (type, pid), F_GETSIG, F_GET_RW_HINT of a regular file, and F_GETOWNER_UIDS."""
    if view.magic or view.flags & uapi_files.O_PATH:
        return (0, 0, 0, 0, ())
    hint, uids = b"", ()
    try:
        with view.stolen(context) as fd:
            kind, pid = struct.unpack("<ii", fcntl.fcntl(fd, uapi_files.F_GETOWN_EX, bytes(8)))
            signal = fcntl.fcntl(fd, uapi_files.F_GETSIG)
            if stat.S_ISREG(view.stat.st_mode):
                hint = fcntl.fcntl(fd, uapi_files.F_GET_RW_HINT, bytes(8))
            if pid:
                with contextlib.suppress(OSError):  # a kernel without CONFIG_CHECKPOINT_RESTORE does not tell
                    uids = struct.unpack("<II", fcntl.fcntl(fd, uapi_files.F_GETOWNER_UIDS, bytes(8)))
    except OSError as error:
        raise KernelError(f"fcntl of {view.link}: {error.strerror}", errno=error.errno or 0) from None
    return (kind if pid else 0, pid, signal, int.from_bytes(hint, "little"), uids)
