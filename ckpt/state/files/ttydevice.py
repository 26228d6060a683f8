"""Terminals that are devices of the host: virtual terminals, serial lines, the console. They are opened again."""

from __future__ import annotations

import os
from functools import partial

from ckpt.errors import KernelError, RestoreError
from ckpt.kernel import procfs, ttys, uapi, uapi_files
from ckpt.kernel import uapi_tty as t
from ckpt.records.files import FileRecord
from ckpt.records.seams import RemoteTask
from ckpt.records.tty import TtyPayload
from ckpt.state.context import CollectContext, RestoreContext
from ckpt.state.files import paths
from ckpt.state.files.base import FileView
from ckpt.state.files.channel import deliver

_CLAIMED = "tty:claimed"  # restoring: sessions that have their terminal


def collect(view: FileView, fd: int, device: int, context: CollectContext) -> TtyPayload | None:
    """None when it controls a session that the tree does not hold, or has no path: it is the caller's then."""
    path = view.link
    session = 0
    for task in context.tasks:
        stat = procfs.stat(task.pid)
        if stat.tty_nr == device:
            session = stat.sid
    if session and all(task.pid != session for task in context.tasks):
        return None
    if view.stat.st_rdev == os.makedev(t.TTYAUX_MAJOR, t.TTYAUX_TTY):
        path = f"/dev/tty{os.minor(device)}" if os.major(device) == t.TTY_MAJOR and os.minor(device) < 64 else ""
    elif not paths.reachable(path, view.stat):
        return None
    termios = ttys.get_bytes(fd, t.TCGETS2, t.TERMIOS2_SIZE)
    return (
        TtyPayload("device", -1, path, termios, procfs.stat(session).tpgid if session else 0, session) if path else None
    )


def restore(file: FileRecord, context: RestoreContext) -> int:
    """A new description; it becomes the terminal of its session again, and has its modes."""
    payload: TtyPayload = file.payload
    fd = paths.open_path(payload.path, file.flags & (os.O_ACCMODE | os.O_NONBLOCK) | os.O_NOCTTY)
    if not os.isatty(fd):
        os.close(fd)
        raise RestoreError(f"{payload.path} was a terminal at the dump and is none now")
    if ttys.get_bytes(fd, t.TCGETS2, t.TERMIOS2_SIZE) != payload.termios:
        ttys.set_bytes(fd, t.TCSETS2, payload.termios)
    claimed: set[int] = context.shared.setdefault(_CLAIMED, set())
    if payload.sid in context.pids and payload.sid not in claimed:
        claimed.add(payload.sid)
        context.when_installed(payload.sid, partial(_claim, context, file))
    return fd


def _claim(context: RestoreContext, file: FileRecord, task: RemoteTask) -> None:
    fd = deliver(context, task, file.file_id)
    try:
        task.syscall(uapi.SYS_ioctl, fd, t.TIOCSCTTY, 0)
    except KernelError as error:
        what = f"{file.payload.path} cannot become the terminal of session {task.pid}"
        raise RestoreError(f"{what}: {error.message}", hint="end the session that has it now") from error
    finally:
        task.syscall(uapi_files.SYS_close, fd)
