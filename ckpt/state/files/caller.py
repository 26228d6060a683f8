"""A shell job: the terminal that ckpt is called from takes the place of the one that the tree had.

A job of a shell that stays outside shares its session: it gets ckpt's own terminal. A tree whose root leads the
session (a login shell) gets a new pseudoterminal of its own, and ckpt, which waits, copies between that and its own.
"""

from __future__ import annotations

import contextlib
import os
import signal
import stat
from collections.abc import Callable

from ckpt.errors import RestoreError
from ckpt.kernel import procfs, ttys
from ckpt.kernel import uapi_tty as t
from ckpt.records.files import FileRecord
from ckpt.records.tty import PtyRecord, TtyPayload
from ckpt.state.context import CollectContext, RestoreContext
from ckpt.state.files.base import FileView

_OPTION = "--shell-job"
_RELAYED = "tty:relayed"  # collecting: index -> record
_RELAY = "tty:relay"  # restoring: the master that ckpt copies from


def collect(view: FileView, fd: int, index: int | None, context: CollectContext) -> TtyPayload:
    """A slave whose master is outside the tree."""
    if not context.options.shell_job:
        reason = "is a terminal whose other end is outside the tree"
        context.refuse(view.pid, view.subject, reason, f"{_OPTION} gives it the terminal of the restore")
        return TtyPayload("caller", -1, view.link)
    task = procfs.stat(view.in_flight_of or view.pid)
    pids = {one.pid for one in context.tasks}
    termios = ttys.get_bytes(fd, t.TCGETS2, t.TERMIOS2_SIZE)
    groups = {procfs.stat(pid).pgid for pid in pids}
    foreground = task.tpgid if task.tpgid in groups else 0
    if index is None or task.sid not in pids or ttys.index_of(task.tty_nr) != index:
        return TtyPayload("caller", -1, view.link, termios, foreground)
    relayed: dict[int, PtyRecord] = context.shared.setdefault(_RELAYED, {})
    if index not in relayed:
        size = ttys.get_bytes(fd, t.TIOCGWINSZ, t.WINSIZE_SIZE)
        node = os.fstat(fd)
        relayed[index] = PtyRecord(
            index, termios, size, False, False, False, task.sid, foreground, stat.S_IMODE(node.st_mode), node.st_uid,
            node.st_gid, "open", b"", 0, (), b"", 0, relayed=True,
        )  # fmt: skip
    return TtyPayload("slave", index, view.link)


def collect_terminals(context: CollectContext) -> None:
    """The records of terminals that ckpt will relay. Called when every file is collected."""
    context.records += context.shared.get(_RELAYED, {}).values()


def restore(file: FileRecord, context: RestoreContext) -> int:
    """A new description of the terminal that ckpt is called from."""
    payload: TtyPayload = file.payload
    if not context.options.get("shell_job"):
        raise _needs_option(payload.path)
    try:
        fd = _open(file.flags & (os.O_ACCMODE | os.O_NONBLOCK))
    except OSError as error:
        raise RestoreError(
            f"ckpt has no terminal to give: {error.strerror}", hint="restore from an interactive shell"
        ) from error
    # Only from the foreground: a change from the background would stop ckpt.
    with contextlib.suppress(OSError):
        if payload.termios and os.tcgetpgrp(fd) == os.getpgrp():
            ttys.set_bytes(fd, t.TCSETS2, payload.termios)
    return fd


def relay(context: RestoreContext, master: int, pty: PtyRecord) -> None:
    """Keep a terminal's master in ckpt."""
    if not context.options.get("shell_job"):
        raise _needs_option(f"/dev/pts/{pty.index}")
    if not context.options.get("relays"):
        raise RestoreError(
            f"the terminal /dev/pts/{pty.index} of session {pty.sid} needs ckpt for as long as the tree runs",
            hint="restore without --detach, and without new namespaces",
        )
    context.shared[_RELAY] = os.dup(master)
    context.stack.push(_on_error(lambda: os.close(context.shared.pop(_RELAY))))


def relay_master(context: RestoreContext) -> int:
    """The master that ckpt copies between and its own terminal; -1 for none."""
    return int(context.shared.get(_RELAY, -1))


def finish(context: RestoreContext) -> None:
    """Bring the job to the foreground of ckpt's terminal. Called when every process group exists."""
    wanted = {file.payload.pgrp for file in context.files.values() if _is_callers(file)} - {0}
    if not wanted or context.options.get("detach"):
        return
    try:
        fd = _open(os.O_RDWR)
    except OSError:
        return  # ckpt has no terminal
    try:
        if os.tcgetpgrp(fd) == os.getpgrp():
            give_terminal(fd, wanted.pop())
            context.stack.push(_on_error(_take_back))
    except OSError:
        pass  # not ours to give
    finally:
        os.close(fd)


def _is_callers(file: FileRecord) -> bool:
    return isinstance(file.payload, TtyPayload) and file.payload.role == "caller"


def give_terminal(fd: int, pgrp: int) -> None:
    """Make a process group the foreground one, from whichever group we are in."""
    old = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
    try:
        os.tcsetpgrp(fd, pgrp)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, old)


def _on_error(undo: Callable[[], None]) -> Callable[..., bool]:
    def leave(kind: object, *_: object) -> bool:
        if kind is not None:
            undo()
        return False

    return leave


def _take_back() -> None:
    with contextlib.suppress(OSError):
        fd = _open(os.O_RDWR)
        try:
            give_terminal(fd, os.getpgrp())
        finally:
            os.close(fd)


def _open(flags: int) -> int:
    terminal = next((fd for fd in (0, 1, 2) if os.isatty(fd)), None)
    path = "/dev/tty" if terminal is None else f"/proc/self/fd/{terminal}"
    return os.open(path, flags | os.O_NOCTTY | os.O_CLOEXEC)


def _needs_option(path: str) -> RestoreError:
    return RestoreError(
        f"the image used the terminal {path} of the shell that started it",
        hint=f"{_OPTION} gives it the terminal of the restore",
    )
