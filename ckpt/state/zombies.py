"""Tasks that have ended and were not waited for: a task made in their place ends in the same way."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ckpt.errors import KernelError
from ckpt.kernel import procfs, taskinfo, uapi
from ckpt.kernel import uapi_state as us
from ckpt.records.state import Attributes
from ckpt.records.support import Support
from ckpt.records.task import TaskRecord
from ckpt.trace.freezer import FrozenTree
from ckpt.trace.skeleton import Skeleton

SUPPORT = Support(
    "tasks",
    "zombies",
    "their status, name and user",
    lost="that a core was dumped (WCOREDUMP), where /proc/sys/kernel/core_pattern names a program",
)

_NO_ATTRIBUTES = Attributes(0, 0, False, 0, (), 0, 0, 0xFFFFFFFF)
_CORE = 0x80  # of a wait status: __WCOREFLAG
_PATTERN = Path("/proc/sys/kernel/core_pattern")
_PAGE = 4096  # ELF_EXEC_PAGESIZE: with a lower limit the kernel dumps nothing


def collect_zombie(tree: FrozenTree, pid: int) -> TaskRecord:
    """All that is left of it."""
    stat = procfs.stat(pid)
    ids = taskinfo.ids(procfs.status(pid))
    return TaskRecord(
        pid=pid, ppid=tree.parents.get(pid, 0), pgid=stat.pgid, sid=stat.sid, tids=(pid,), state="zombie",
        exit_code=stat.exit_code, exit_signal=stat.exit_signal, stop_signal=0, mm_id=0, table_id=0,
        sighand_id=0, fs_id=0, fs=None, sigactions=(), pending=(), itimers=(), posix_timers=(), rlimits=(),
        attributes=_NO_ATTRIBUTES, parent_tid=tree.parent_threads.get(pid, 0),
        zombie=(taskinfo.comm(pid, pid), ids.uids[:3], ids.gids[:3]),
    )  # fmt: skip


def end(skeleton: Skeleton, record: TaskRecord) -> None:
    """Let the task made in its place end; nobody has waited for it then."""
    with _room_for_core(skeleton, record.exit_code) as core:
        if record.zombie is not None:
            _identify(skeleton, *record.zombie)
        if core:
            skeleton.syscall(uapi.SYS_prctl, us.PR_SET_DUMPABLE, 1, 0, 0, 0)
        skeleton.exit(record.exit_code, core=core)


def _identify(skeleton: Skeleton, comm: str, uids: tuple[int, ...], gids: tuple[int, ...]) -> None:
    name = comm.encode("utf-8", "surrogateescape")[:15] + b"\0"
    skeleton.syscall(uapi.SYS_prctl, us.PR_SET_NAME, skeleton.put(name), 0, 0, 0)
    with suppress(KernelError):  # without root there is no user but ckpt's own
        skeleton.syscall(uapi.SYS_setresgid, *gids)
        skeleton.syscall(uapi.SYS_setresuid, *uids)


@contextmanager
def _room_for_core(skeleton: Skeleton, status: int) -> Iterator[bool]:
    """Whether its core file, of a page, goes where nobody sees it and is removed at once."""
    pattern = _pattern()
    if not status & _CORE or "%" in os.path.dirname(pattern) or pattern[:1] in ("", "|", "@"):
        yield False
        return
    place = Path(tempfile.mkdtemp(prefix="ckpt-core-"))
    try:
        inside = place / os.path.dirname(pattern).lstrip("/")
        inside.mkdir(parents=True, exist_ok=True)
        place.chmod(0o711)
        inside.chmod(0o777)
        yield _enter(skeleton, place, chroot=pattern.startswith("/"))
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _enter(skeleton: Skeleton, place: Path, *, chroot: bool) -> bool:
    address = skeleton.put(os.fsencode(place) + b"\0")
    try:
        taskinfo.set_limit(skeleton.pid, us.RLIM_NAMES.index("RLIMIT_CORE"), _PAGE, _PAGE)
        skeleton.syscall(uapi.SYS_chroot if chroot else uapi.SYS_chdir, address)
    except KernelError:
        return False
    return True


def _pattern() -> str:
    try:
        return _PATTERN.read_text().rstrip("\n")
    except OSError:
        return ""
