"""Terminals: pseudoterminals with their masters in the tree, and the terminal ckpt is called from."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path

from ckpt.errors import KernelError, RestoreError
from ckpt.kernel import tty_queue, ttys, uapi, uapi_files
from ckpt.kernel import uapi_tty as t
from ckpt.kernel.descriptors import steal_descriptor
from ckpt.records.files import FileRecord
from ckpt.records.seams import RemoteTask
from ckpt.records.support import Support
from ckpt.records.tty import PtyRecord, TtyPayload
from ckpt.state.context import CollectContext, RestoreContext
from ckpt.state.files import caller, ttydevice
from ckpt.state.files.base import FileView
from ckpt.state.files.channel import hand_over
from ckpt.state.files.registry import registry

SUPPORT = Support(
    "terminals",
    "terminals",
    "ptys with both ends in the tree: settings, size, sessions, what waits in them (unfinished lines too), stopped "
    "output, packet mode; consoles and serial lines, opened again; with `--shell-job` the caller's terminal, or a "
    "session of its own that ckpt relays",
    lost="a number that somebody else has (a note says so); the column at which output stands, by which tabs are "
    "expanded; a ^V that waits for its character; a read that waits for more (VMIN) returns what it has; a full "
    "terminal may take some bytes more; what was typed at one that nobody has opened yet; of a console, that others "
    "than the session's leader have it as theirs",
)

_OWN = "/dev/tty"
# What a description shows for ever, O_LARGEFILE in one that was opened by its name and not in one of openpty(3).
_SHOWN = os.O_ACCMODE | os.O_NONBLOCK | os.O_SYNC | os.O_NOFOLLOW | uapi_files.O_LARGEFILE
_ENDS = "tty:ends"
_EXCLUSIVE = "tty:exclusive"  # collecting: indices
_STRANGE = "tty:strange"  # collecting: indices of those with another line discipline, which answers to nothing else
_PATIENCE = 5  # seconds for numbers that somebody else has
_ENDED = "tty:ended"  # restoring: (index, path) -> a master that is to be closed when the slaves are open
_MADE = "tty:made"  # restoring: index -> master descriptor, kept until the slaves are open
_GIVEN = "tty:given"  # sessions that have their terminal


class TtyKind:
    """A terminal of any kind."""

    kind = "tty"

    def recognises(self, view: FileView) -> bool:
        mode = view.stat.st_mode
        return stat.S_ISCHR(mode) and os.major(view.stat.st_rdev) in t.TTY_MAJORS and not view.flags & uapi_files.O_PATH

    def collect(self, view: FileView, context: CollectContext) -> TtyPayload:
        with view.stolen(context) as fd:
            if _is_master(view):
                return _collect_master(view, fd, context)
            return _collect_slave(view, fd, context)

    def restore(self, file: FileRecord, context: RestoreContext) -> int:
        payload: TtyPayload = file.payload
        try:
            if payload.role == "caller":
                return caller.restore(file, context)
            if payload.role == "device":
                return ttydevice.restore(file, context)
            if payload.role == "hung-up":
                return _hung_up(file, context)
            return _restore_pty(file, context)
        except KernelError as error:
            raise RestoreError(f"terminal {payload.path} cannot be restored: {error.message}") from error


KIND = TtyKind()


def finish_terminals(context: RestoreContext, remote: Callable[[int], RemoteTask]) -> None:
    """Put the foreground process groups back. Called when every process group exists; `remote` gives a task."""
    caller.finish(context)
    groups = {task.pgid for task in context.view.records("task")}
    for sid, group, name in _foregrounds(context):
        if sid not in context.pids or group in (0, sid):
            continue
        if group in groups:
            _set_foreground(remote(sid), group, name)
        else:
            _leave_to_ended_group(remote(sid), group, name, context)


def _foregrounds(context: RestoreContext) -> set[tuple[int, int, str]]:
    """(session, foreground process group, name) of every terminal."""
    found = {(pty.sid, pty.pgrp, f"/dev/pts/{pty.index}") for pty in context.view.records("pty")}
    payloads = [file.payload for file in context.files.values() if file.kind == KIND.kind]
    return found | {(p.sid, p.pgrp, p.path) for p in payloads if p.role == "device"}


def _leave_to_ended_group(leader: RemoteTask, group: int, name: str, context: RestoreContext) -> None:
    """A group that has ended stays the foreground one until somebody is put there: led by a helper, which ends."""
    assert context.acting is not None
    for number in (group, 0):  # 0: the number is somebody else's by now
        with context.acting(number, leader.pid) as helper:
            if helper is not None:
                helper.syscall(uapi.SYS_setpgid, 0, 0)
                _set_foreground(leader, helper.pid, name)
                return


def _set_foreground(leader: RemoteTask, group: int, name: str) -> None:
    fd = leader.syscall(uapi.SYS_openat, t.AT_FDCWD, leader.put(f"{_OWN}\0".encode()), os.O_RDWR | os.O_CLOEXEC, 0)
    try:
        leader.syscall(uapi.SYS_ioctl, fd, t.TIOCSPGRP, leader.put(group.to_bytes(8, "little")))
    except KernelError as error:
        raise RestoreError(f"foreground process group {group} of {name} cannot be set: {error.message}") from error
    finally:
        leader.syscall(uapi_files.SYS_close, fd)


def _is_master(view: FileView) -> bool:
    return view.stat.st_rdev == os.makedev(t.TTYAUX_MAJOR, t.TTYAUX_PTMX)


def _ends(context: CollectContext) -> tuple[dict[int, FileView], dict[int, FileView]]:
    """The pseudoterminals that the tree has open: masters and slaves by index."""
    if _ENDS not in context.shared:
        masters: dict[int, FileView] = {}
        slaves: dict[int, FileView] = {}
        for view in registry(context).views.values():
            if view.fd < 0 or not KIND.recognises(view):
                continue
            with view.stolen(context) as fd:
                if _is_master(view):
                    masters[ttys.get_int(fd, t.TIOCGPTN)] = view
                elif (index := ttys.index_of(ttys.device(fd) or 0)) is not None:
                    slaves.setdefault(index, view)
        context.shared[_ENDS] = masters, slaves
    ends: tuple[dict[int, FileView], dict[int, FileView]] = context.shared[_ENDS]
    return ends


def _collect_master(view: FileView, fd: int, context: CollectContext) -> TtyPayload:
    index = ttys.get_int(fd, t.TIOCGPTN)
    _ends(context)[0].setdefault(index, view)  # one in flight is in no table
    return TtyPayload("master", index, f"/dev/pts/{index}")


def collect_ptys(context: CollectContext) -> None:
    """The records of the pseudoterminals. Called when every file is collected."""
    caller.collect_terminals(context)
    if _ENDS not in context.shared:
        return
    masters, slaves = _ends(context)
    with ExitStack() as stack:
        found: list[tuple[PtyRecord, int]] = []
        for index, view in masters.items():
            if index in context.shared.get(_STRANGE, ()):
                continue
            fd = stack.enter_context(view.stolen(context))
            pty = _collect_pty(index, view, fd, slaves, context)
            if pty is not None:
                found.append((pty, fd))
        # What is queued can only be looked at through a slave, and one never opened before would not be that again.
        used = {
            record.index: fd
            for record, fd in found
            if record.slave != "untouched" and not _idle(fd, slaves.get(record.index), context)
        }
        queues = dict(zip(used, tty_queue.peek(list(used.values())), strict=True))
        for record, _fd in found:
            q = queues.get(record.index, tty_queue.Queues())
            context.records.append(
                replace(record, output=q.output, status=q.status, lines=q.lines, rest=q.rest, stopped=q.stopped)
            )


def _idle(master: int, slave: FileView | None, context: CollectContext) -> bool:
    """Whether a look at what is queued, which takes a process of its own, can be spared."""
    if slave is None:
        return False
    with slave.stolen(context) as fd:
        return tty_queue.idle(master, fd)


def _collect_pty(
    index: int, view: FileView, fd: int, slaves: dict[int, FileView], context: CollectContext
) -> PtyRecord | None:
    path = f"/dev/pts/{index}"
    sid = ttys.owner(fd, t.TIOCGSID)
    if sid and all(task.pid != sid for task in context.tasks):
        reason = f"controls session {sid}, whose leader is outside the tree"
        context.refuse(view.pid, view.subject, reason, "dump the tree that holds the session leader")
    try:
        node = Path(path).stat()
    except FileNotFoundError:
        context.refuse(view.pid, view.subject, f"belongs to another devpts than {path}")
        return None
    return PtyRecord(
        index=index,
        termios=ttys.get_bytes(fd, t.TCGETS2, t.TERMIOS2_SIZE),
        winsize=ttys.get_bytes(fd, t.TIOCGWINSZ, t.WINSIZE_SIZE),
        locked=bool(ttys.get_int(fd, t.TIOCGPTLCK)),
        packet=bool(ttys.get_int(fd, t.TIOCGPKT)),
        exclusive=index in context.shared.get(_EXCLUSIVE, ()),
        sid=sid,
        pgrp=ttys.owner(fd, t.TIOCGPGRP) if sid else 0,
        mode=stat.S_IMODE(node.st_mode),
        uid=node.st_uid,
        gid=node.st_gid,
        slave="closed" if tty_queue.hung_up(fd) else "open" if index in slaves else "untouched",
        output=b"",
        status=0,
        lines=(),
        rest=b"",
        stopped=tty_queue.RUNNING,
        fixed=ttys.fixed_modes(fd),
        exclusive_master=bool(ttys.get_int(fd, t.TIOCGEXCL)),
    )


def _collect_slave(view: FileView, fd: int, context: CollectContext) -> TtyPayload:
    device = ttys.device(fd)
    if device is None:
        index = ttys.index_of(view.stat.st_rdev)  # which it keeps as long as it is open
        return TtyPayload("hung-up", -1 if index is None else index, view.link)
    index = ttys.index_of(device)
    if index is None and not context.options.shell_job:
        found = ttydevice.collect(view, fd, device, context)
        if found is not None:
            return found
    if index is None or index not in _ends(context)[0]:
        return caller.collect(view, fd, index, context)
    if (number := ttys.get_int(fd, t.TIOCGETD)) != t.N_TTY:
        context.refuse(
            view.pid, view.subject, f"has a line discipline other than N_TTY ({number})", "let the task set N_TTY again"
        )
        context.shared.setdefault(_STRANGE, set()).add(index)
    if ttys.get_int(fd, t.TIOCGEXCL):  # asked through the master it would be the master's own
        context.shared.setdefault(_EXCLUSIVE, set()).add(index)
    return TtyPayload("slave", index, view.link)


def _ptys(context: RestoreContext) -> dict[int, int]:
    """Every pseudoterminal of the image: index -> a master, unlocked and set. Made on the first call."""
    made = _made(context)
    if context.acting is not None:
        for pty in context.view.records("pty"):
            if pty.sid and pty.sid in context.pids:
                with context.acting(pty.sid) as leader:
                    if leader is not None:  # it has not ended
                        _give_to_session(pty, made[pty.index], leader, context)
    return made


def begin_session(context: RestoreContext, leader: RemoteTask) -> None:
    """Give the leader its terminal before it has children: only by birth does a task that leads no session get it."""
    for pty in context.view.records("pty"):
        if pty.sid == leader.pid:
            _give_to_session(pty, _made(context)[pty.index], leader, context)
            for task in context.view.records("task"):
                if task.sid == pty.sid and not task.ctty_file and task.state != "zombie":
                    context.when_installed(task.pid, _give_up)


def _give_up(task: RemoteTask) -> None:
    """TIOCNOTTY: a task that was born before its session had the terminal, or has turned away from it, has none."""
    with suppress(KernelError):  # no /dev/tty below its root
        fd = task.syscall(uapi.SYS_openat, uapi_files.AT_FDCWD, task.put(_OWN.encode() + b"\0"), os.O_RDWR, 0)
        task.syscall(uapi.SYS_ioctl, fd, t.TIOCNOTTY, 0)
        task.syscall(uapi_files.SYS_close, fd)


def _made(context: RestoreContext) -> dict[int, int]:
    if _MADE not in context.shared:
        made: dict[int, int] = {}
        context.shared[_MADE] = made
        opened: dict[int, FileRecord] = {
            file.payload.index: file
            for file in reversed(context.files.values())
            if file.kind == KIND.kind and file.payload.role == "master"
        }
        ptys = sorted(context.view.records("pty"), key=lambda p: int(p.index))
        modes = {i: opened[i].flags & os.O_ACCMODE if i in opened else os.O_RDWR for i in (p.index for p in ptys)}
        patience = time.monotonic() + _PATIENCE
        for pty in ptys:
            left = 0.5 if pty.relayed else patience - time.monotonic()  # that one may have another number
            fd = ttys.open_master_at(pty.index, modes[pty.index], left)
            if fd is not None:
                made[pty.index] = fd
        for pty in ptys:  # when the others have their numbers
            if pty.index not in made:
                made[pty.index], number = ttys.open_master(modes[pty.index])
                if not pty.relayed:
                    note = f"/dev/pts/{pty.index} is in use by somebody else: that terminal is /dev/pts/{number} now"
                    context.notes.append(f"{note} (--pidns has terminals of its own)")
        for pty in ptys:
            fd = made[pty.index]
            ttys.set_int(fd, t.TIOCSPTLCK, 0)
            ttys.set_bytes(fd, t.TIOCSWINSZ, pty.winsize)  # as long as there is nobody to be told (SIGWINCH)
        context.when_opened(lambda: _settle(made, context))
    return context.shared[_MADE]  # type: ignore[no-any-return]


def _restore_pty(file: FileRecord, context: RestoreContext) -> int:
    payload: TtyPayload = file.payload
    masters = _ptys(context)
    master = masters.get(payload.index)
    if master is None:
        raise RestoreError(f"the image lacks the pseudoterminal of {payload.path}")
    if payload.role == "slave" and payload.path == _OWN and (fd := _own_terminal(file, payload, context)) is not None:
        return fd
    if payload.role == "slave":
        return ttys.open_slave(master, file.flags & _SHOWN)
    # A master has one description only: every open of /dev/ptmx makes another pseudoterminal.
    return os.dup(master)


def _give_to_session(pty: PtyRecord, master: int, leader: RemoteTask, context: RestoreContext) -> None:
    """TIOCSCTTY in the session leader, once, on a slave that is handed to it for the moment."""
    given: set[int] = context.shared.setdefault(_GIVEN, set())
    if pty.sid in given:
        return
    given.add(pty.sid)
    slave = ttys.open_slave(master, os.O_RDWR)
    try:
        fd = hand_over(context, leader, slave)
        try:
            leader.syscall(uapi.SYS_ioctl, fd, t.TIOCSCTTY, 0)
        except KernelError as error:
            what = f"/dev/pts/{pty.index} cannot become the terminal of session {pty.sid}"
            raise RestoreError(f"{what}: {error.message}") from error
        finally:
            leader.syscall(uapi_files.SYS_close, fd)
    finally:
        os.close(slave)


def _own_terminal(file: FileRecord, payload: TtyPayload, context: RestoreContext) -> int | None:
    """What was opened as /dev/tty stays that: opened by the leader of the session that it controls."""
    sid = next((pty.sid for pty in context.view.records("pty") if pty.index == payload.index), 0)
    if sid not in context.pids or context.acting is None:
        return None
    with context.acting(sid) as leader:
        if leader is None:
            return None
        flags = file.flags & (os.O_ACCMODE | os.O_NONBLOCK) | os.O_CLOEXEC
        fd = leader.syscall(uapi.SYS_openat, t.AT_FDCWD, leader.put(f"{_OWN}\0".encode()), flags, 0)
        try:
            return steal_descriptor(leader.pid, fd)
        finally:
            leader.syscall(uapi_files.SYS_close, fd)


def _settle(made: dict[int, int], context: RestoreContext) -> None:
    """Modes, when every slave is open: an exclusive or locked terminal could not be opened again."""
    for pty in context.view.records("pty"):
        fd = made[pty.index]
        if pty.relayed:
            caller.relay(context, fd, pty)
        ttys.set_bytes(fd, t.TCSETS2, pty.termios)
        ttys.set_int(fd, t.TIOCPKT, int(pty.packet))
        if pty.slave != "untouched":
            with tty_queue.slave_of(fd) as slave:
                queues = tty_queue.Queues(pty.output, pty.status, pty.lines, pty.rest, pty.stopped)
                tty_queue.put(fd, slave, queues)
                if pty.exclusive:
                    ttys.set_bytes(slave, t.TIOCEXCL, b"")
        if pty.fixed:
            ttys.set_bytes(fd, t.TIOCSLCKTRMIOS, pty.fixed)
        if pty.exclusive_master:
            ttys.set_bytes(fd, t.TIOCEXCL, b"")
        path = f"/dev/pts/{ttys.get_int(fd, t.TIOCGPTN)}"
        try:
            os.chown(path, pty.uid, pty.gid)
            os.chmod(path, pty.mode)
        except OSError as error:
            raise RestoreError(f"{path}: {error.strerror}") from error
        ttys.set_int(fd, t.TIOCSPTLCK, int(pty.locked))
        os.close(fd)
    made.clear()


def _hung_up(file: FileRecord, context: RestoreContext) -> int:
    """A slave whose master is closed: once the slaves are open, so is this one."""
    _ptys(context)  # those take their own indices first
    payload: TtyPayload = file.payload
    masters: dict[tuple[int, str], int] = context.shared.setdefault(_ENDED, {})
    terminal = payload.index, payload.path
    if terminal not in masters:
        master = ttys.open_master_at(payload.index, os.O_RDWR, 0) if payload.index >= 0 else None
        if master is None:
            master, _index = ttys.open_master(os.O_RDWR)
        masters[terminal] = master
        context.when_opened(lambda: os.close(masters.pop(terminal)))
        ttys.set_int(master, t.TIOCSPTLCK, 0)
    return ttys.open_slave(masters[terminal], file.flags & _SHOWN)
