"""In which namespaces a tree is restored, and rounds of trees that live in other ones than ckpt.

A user who may not choose pids restores in a new user and pid namespace; root can restore in a new pid namespace when
a pid is taken; a time namespace lets the clocks go on when the tree comes from another boot.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from ckpt.engine.elsewhere import work_elsewhere
from ckpt.engine.progress import Progress
from ckpt.errors import KernelError, NoSuchTask, RestoreError, TaskError, UsageError
from ckpt.kernel import features, mounts, namespaces, procfs, taskinfo
from ckpt.kernel import uapi_namespaces as un
from ckpt.records.image import ImageHeader
from ckpt.records.seams import ImageView
from ckpt.records.tree import TreeRecord
from ckpt.state import sysv_queues

T = TypeVar("T")

_NAMES = {un.CLONE_NEWUSER: "user", un.CLONE_NEWPID: "pid", un.CLONE_NEWTIME: "time", un.CLONE_NEWIPC: "ipc"}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the caller asked for; None leaves it to ckpt."""

    userns: bool | None = None
    pidns: bool = False
    timens: bool | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """New namespaces for a restore: none when `flags` is 0. `notes` say what was chosen unasked, and what is lost."""

    flags: int = 0
    monotonic_ns: int = 0  # what the clocks are to show, in a time namespace
    boottime_ns: int = 0
    offsets: tuple[int, int] | None = None  # by which they go on with this host's, instead
    notes: tuple[str, ...] = ()
    groups: tuple[int, ...] = ()  # of this user, as numbered outside
    init: bool = False  # the root itself is the first process of the new pid namespace

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for flag, name in _NAMES.items() if self.flags & flag)

    @property
    def has_users(self) -> bool:
        return bool(self.flags & un.CLONE_NEWUSER)

    @property
    def has_pids(self) -> bool:
        return bool(self.flags & un.CLONE_NEWPID)

    def enter(self) -> None:
        """Make the namespaces, in a process that is to fork."""
        uid, gid = os.geteuid(), os.getegid()
        offsets = namespaces.clock_offsets()
        namespaces.unshare(self.flags)
        if self.has_users:
            namespaces.map_own_ids(uid, gid)
            namespaces.keep_capabilities()  # that they outlast an exec
        if self.flags & un.CLONE_NEWTIME and self.offsets is not None:
            namespaces.set_clock_offsets(dict(zip(("monotonic", "boottime"), self.offsets, strict=True)))
        elif self.flags & un.CLONE_NEWTIME:
            offsets["monotonic"] += self.monotonic_ns - time.clock_gettime_ns(time.CLOCK_MONOTONIC)
            offsets["boottime"] += self.boottime_ns - time.clock_gettime_ns(time.CLOCK_BOOTTIME)
            namespaces.set_clock_offsets(offsets)

    def settle(self, *, terminals: bool) -> None:
        """In the worker: a /proc of the new pid namespace, and terminals of its own."""
        if not self.has_pids:
            return
        try:
            namespaces.mount_proc()
        except Exception as error:
            raise RestoreError(
                f"the new pid namespace cannot have a /proc of its own: {error}",
                hint="a container that covers parts of /proc forbids it: run ckpt restore as root, or outside of it",
            ) from error
        if terminals:
            try:
                namespaces.mount_terminals()
            except (KernelError, OSError):
                return  # those of the host do, as long as the numbers are free


HERE = Place()


def choose(wanted: Wanted, view: ImageView) -> Place:
    """Where this user restores this image on this host."""
    header, tree = view.header, view.records("tree")[0]
    if wanted.userns and wanted.pidns:
        raise UsageError("--userns makes a pid namespace as well", hint="leave --pidns away")
    flags, notes = 0, []
    if wanted.userns is None and not wanted.pidns and not features.probe("clone3-set_tid").available:
        if features.probe("user-namespace").available:
            flags = un.CLONE_NEWUSER
            notes.append("this user may not choose pids: the tree runs in a new user and pid namespace")
    elif wanted.userns:
        flags = un.CLONE_NEWUSER
    init = tree.root_pid == namespaces.INIT
    if init:
        notes.append("the root was the init of a pid namespace: the tree runs in a new one")
    if flags or wanted.pidns or init:
        flags |= un.CLONE_NEWPID | un.CLONE_NEWNS
    if flags & un.CLONE_NEWUSER:
        ipc, more = _ipc(view)
        flags |= ipc
        notes += more
    clocks = _Clocks(header, tree)
    may_set = bool(flags & un.CLONE_NEWUSER) or os.geteuid() == 0
    if wanted.timens or (wanted.timens is None and clocks.jump_ns and may_set):
        if features.probe("time-namespace").available:
            flags |= un.CLONE_NEWTIME
        elif wanted.timens:
            raise RestoreError("this kernel has no time namespaces", hint="leave --timens away: the clocks jump")
    if clocks.jump_ns and not flags & un.CLONE_NEWTIME:
        notes.append(f"CLOCK_MONOTONIC and CLOCK_BOOTTIME jump by {clocks.jump_ns / 1e9:+.0f} s: {clocks.why}")
    groups = tuple(os.getgroups())
    if wanted.timens or clocks.offsets is None:
        return Place(flags, tree.monotonic_ns, tree.boottime_ns, None, tuple(notes), groups, init)
    return Place(flags, offsets=clocks.offsets, notes=tuple(notes), groups=groups, init=init)


def _ipc(view: ImageView) -> tuple[int, list[str]]:
    """CLONE_NEWIPC, and a note, when SysV objects are to be made again: only there may this user choose their ids."""
    found = sysv_queues.still_here(view)
    if not found.gone:
        return 0, []
    if found.attached:
        raise RestoreError(
            f"{found.gone[0]} is gone, and this user can make it again only in a new IPC namespace; but processes "
            f"outside the tree are attached to {found.attached[0]}",
            hint="restore as root, or end those processes first",
        )
    note = f"{found.gone[0]} is gone, and is made again in a new IPC namespace"
    if found.kept:
        note += f": what the tree has there is apart from {', '.join(found.kept)} of this one"
    return un.CLONE_NEWIPC, [note]


def _groups(root: int) -> dict[int, tuple[int, ...]]:
    """The supplementary groups of a tree's processes as they are numbered here, by the pids that they know."""
    found, todo = {}, [root]
    while todo:
        pid = todo.pop()
        try:
            todo += procfs.children(pid, procfs.threads(pid))
            found[namespaces.pid_inside(pid)] = taskinfo.ids(procfs.status(pid)).groups
        except NoSuchTask:
            continue
    return found


class _Clocks:
    """What becomes of CLOCK_MONOTONIC and CLOCK_BOOTTIME without a time namespace of the tree's own."""

    def __init__(self, header: ImageHeader, tree: TreeRecord) -> None:
        own = namespaces.clock_offsets()
        monotonic = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        kernel = tree.monotonic_ns - tree.monotonic_offset_ns
        self.jump_ns, self.why = 0, ""
        self.offsets: tuple[int, int] | None = None  # with which the clocks of the tree go on as they did
        if not tree.monotonic_ns:
            return
        if header.boot_id != procfs.boot_id() or monotonic - own["monotonic"] < kernel:
            self.jump_ns = monotonic - tree.monotonic_ns or 1
            self.why = "the image comes from another boot"
            return
        self.offsets = tree.monotonic_offset_ns, tree.boottime_offset_ns
        if self.offsets != (own["monotonic"], own["boottime"]):
            self.jump_ns = own["monotonic"] - tree.monotonic_offset_ns or own["boottime"] - tree.boottime_offset_ns
            self.why = "the tree was in a time namespace of its own"


def outside_pid(init: int, pid: int) -> int:
    """The pid, seen from here, of the child `pid` of the init of a pid namespace."""
    for child in procfs.children(init, [init]):
        try:
            if namespaces.pid_inside(child) == pid:
                return child
        except (NoSuchTask, KeyError):
            continue
    raise NoSuchTask(f"the restored task {pid} has ended already")


def where_it_lives(pid: int, work: Callable[[int, Progress | None], T], progress: Progress | None = None) -> T:
    """`work(pid, progress)`, in the namespaces of pids, users, mounts and time of that task and with its pid there.

    In ckpt itself when they are its own, as nearly always.
    """
    try:
        thread = namespaces.living_thread(pid)
    except NoSuchTask:
        return work(pid, progress)  # which says so
    flags = namespaces.differing(thread)
    if not flags & (un.CLONE_NEWPID | un.CLONE_NEWTIME):
        return work(pid, progress)
    theirs, ours = os.stat(f"/proc/{thread}/root"), os.stat("/")
    if (theirs.st_dev, theirs.st_ino) != (ours.st_dev, ours.st_ino):
        raise TaskError(
            f"task {pid} lives in a container: its pid namespace and its root directory are not ckpt's",
            hint="run ckpt inside that container",
        )
    own = mounts.not_ours(thread) if flags & un.CLONE_NEWNS else []
    if own:
        raise TaskError(
            f"task {pid} lives in a mount namespace that has more in it, which a restore would not mount again: "
            + ", ".join(own),
            hint="let it be unmounted, or run ckpt inside that namespace (nsenter --mount --pid), and keep it",
        )
    inside = namespaces.pid_inside(pid)
    groups = _groups(pid) if flags & un.CLONE_NEWUSER else {}

    def there(progress: Progress | None) -> T:
        taskinfo.remember_groups(groups)
        if os.readlink("/proc/self") != str(os.getpid()):
            raise TaskError(
                f"task {pid} lives in a pid namespace, but its /proc is that of another one",
                hint="mount a proc of that namespace for it (unshare --mount-proc does), then start it again",
            )
        return work(inside, progress)

    result: T = work_elsewhere(lambda: namespaces.enter(thread, flags), there, progress=progress)
    return result
