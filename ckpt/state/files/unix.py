"""Unix sockets from outside: the kernel's table and a stolen descriptor. `unixbuild` makes them again."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from ckpt.errors import KernelError, RestoreError
from ckpt.kernel import accept_queue, sock_diag, sockets
from ckpt.kernel import uapi_socket as u
from ckpt.kernel.sockets import Message
from ckpt.kernel.standins import entry
from ckpt.records.files import FileRecord
from ckpt.records.sockets import QueuedMessage, SocketPlace, UnixPayload, UnixWaiting
from ckpt.records.support import Support
from ckpt.state.context import CollectContext, RestoreContext
from ckpt.state.files import inflight, unixbuild
from ckpt.state.files.base import FileView
from ckpt.state.files.queues import peek_messages, peek_stream, peek_urgent
from ckpt.state.files.sockfamily import refuse_foreign_namespace, socket_family
from ckpt.state.files.sockopts import collect_options
from ckpt.state.files.unixactors import identity_of, peer_identity

SUPPORT = Support(
    "sockets",
    "Unix",
    "stream, dgram, seqpacket: listening, pairs, names and socket files, queues with senders and urgent bytes, "
    "descriptors in flight, half closed, whose peer has ended; who made them (SO_PEERCRED); "
    "those that processes outside hold, too, are shared with them again",
    lost="where in a stream an urgent byte was that has been read; how small the pieces were in which a stream was "
    "written: its writer may have room again; other hard links of a socket's file, which lead to nobody then",
)

_SEEN = "unix:seen"  # context.shared: inode -> (view, payload), for finish_unix


class UnixKind:
    """A socket of AF_UNIX."""

    kind = "unix-socket"

    def recognises(self, view: FileView) -> bool:
        return socket_family(view) == u.AF_UNIX

    def collect(self, view: FileView, context: CollectContext) -> UnixPayload:
        with view.stolen(context) as fd:
            return self._collect(view, fd, context)

    def _collect(self, view: FileView, fd: int, context: CollectContext) -> UnixPayload:
        refuse_foreign_namespace(view, fd, context)
        table = _table(context)
        ino = view.stat.st_ino
        entry = table[ino]
        kind = sockets.getsockopt_int(fd, u.SOL_SOCKET, u.SO_TYPE)
        listening = entry.state == u.TCP_LISTEN
        options = collect_options(view, fd, u.AF_UNIX, kind, 0, context)
        seen = context.shared.setdefault(_SEEN, {})
        # Known before its queue is read: a socket can be in flight in its own queue.
        seen[ino] = (view, None)
        # One that is not connected holds nothing, and recv(2) says no more than that.
        idle = kind == u.SOCK_SEQPACKET and entry.state != u.TCP_ESTABLISHED
        queue = () if listening or idle else _queue(view, fd, kind, context)
        peer = sockets.getpeername(fd)
        payload = UnixPayload(
            ino=ino,
            type=kind,
            listening=listening,
            backlog=entry.wqueue if listening else 0,
            name=entry.name if entry.name[:1] == b"\0" else entry.name.rstrip(b"\0"),
            place=_place(view, fd, entry, context),
            connected=entry.peer is not None,
            peer_ino=entry.peer or 0,
            peer_name=_path(peer or b""),
            pending_on=_listener_of(ino, table) if entry.peer == 0 else 0,
            shutdown=entry.shutdown,
            queue=queue,
            options=options,
            waiting=_waiting(view, fd, entry, table, context) if listening else (),
            made_by=peer_identity(fd),
            reset=sockets.failed(fd),
            connector=identity_of(view.in_flight_of or view.pid) if entry.peer == 0 and not listening else None,
        )
        seen[ino] = (view, payload)
        return payload

    def restore(self, file: FileRecord, context: RestoreContext) -> int:
        made = unixbuild.build_all(context)
        fd = made.get(file.file_id)
        if fd is None:
            raise RestoreError(f"Unix socket {file.payload.ino} is not among the sockets of the image")
        return fd


def finish_unix(context: CollectContext) -> None:
    """Refuse sockets whose other end is outside the tree. Called when every file is collected."""
    seen: dict[int, tuple[FileView, UnixPayload | None]] = context.shared.get(_SEEN, {})
    table = _table(context)
    hint = "--ext-unix restores it with its other end closed"
    for view, payload in seen.values():
        if payload is None:
            continue
        entry = table[payload.ino]
        if payload.peer_ino and payload.peer_ino not in seen and not context.options.ext_unix:
            peer = table.get(payload.peer_ino)
            named = payload.type == u.SOCK_DGRAM and peer is not None and peer.name
            if not named:  # a named datagram socket (/dev/log) is simply connected to again
                reason = f"is connected to a Unix socket outside the tree (inode {payload.peer_ino})"
                context.refuse(view.pid, view.subject, reason, hint)
        if payload.pending_on and payload.pending_on not in seen and not context.options.ext_unix:
            context.refuse(view.pid, view.subject, "waits to be accepted by a task outside the tree", hint)
        waiting = [ino for ino in entry.icons if ino and ino not in seen]
        if waiting and not context.options.ext_unix:
            reason = f"has {len(waiting)} connection(s) from outside the tree that wait to be accepted"
            context.refuse(view.pid, view.subject, reason, "--ext-unix drops them", passing=True)
        if payload.type == u.SOCK_DGRAM:
            _check_peer(view, payload, seen, context)
            _check_senders(view, payload, seen, table, context)


def _check_peer(
    view: FileView,
    payload: UnixPayload,
    seen: dict[int, tuple[FileView, UnixPayload | None]],
    context: CollectContext,
) -> None:
    """Nothing can connect to a nameless socket; only socketpair(2) makes one somebody's peer."""
    peer = seen.get(payload.peer_ino, (None, None))[1]
    if peer is None or peer.name or peer.peer_ino == payload.ino:
        return
    if payload.made_by is None or peer.made_by is None:
        reason = "is connected to a nameless datagram socket that has since been connected elsewhere"
        context.refuse(view.pid, view.subject, reason, "close it before the dump")


def _check_senders(
    view: FileView,
    payload: UnixPayload,
    seen: dict[int, tuple[FileView, UnixPayload | None]],
    table: dict[int, sock_diag.UnixSocket],
    context: CollectContext,
) -> None:
    """Queued datagrams keep their sender's name only if that name can be bound at the restore.

    A relative name is no obstacle: somebody else has it in another directory.
    """
    names = {ino: entry.name.rstrip(b"\0") for ino, entry in table.items() if entry.name[:1] in (b"\0", b"/")}
    outside = {name for ino, name in names.items() if ino not in seen}
    outside -= {name for ino, name in names.items() if ino in seen}
    for message in payload.queue:
        sender = _path(message.name)
        if sender and sender.rstrip(b"\0") in outside:
            reason = f"has an unread datagram from {unixbuild.show(sender)}, a socket outside the tree"
            context.refuse(view.pid, view.subject, reason, "let the task read its datagrams first", passing=True)
            return


def _table(context: CollectContext) -> dict[int, sock_diag.UnixSocket]:
    """The kernel's table, taken once: the sockets of the frozen tree cannot change."""
    if "unix:table" not in context.shared:
        context.shared["unix:table"] = sock_diag.unix_sockets()
    table: dict[int, sock_diag.UnixSocket] = context.shared["unix:table"]
    return table


def _listener_of(ino: int, table: dict[int, sock_diag.UnixSocket]) -> int:
    return next((entry.ino for entry in table.values() if ino in entry.icons), 0)


def _path(name: bytes) -> bytes:
    """sun_path of a sockaddr_un, without the zero byte that ends a path."""
    path = name[2:]
    return path if path[:1] == b"\0" else path.rstrip(b"\0")


def _place(view: FileView, fd: int, entry: sock_diag.UnixSocket, context: CollectContext) -> SocketPlace | None:
    """Where the socket file of a bound socket is, and where its name counts from."""
    name = os.fsdecode(entry.name.rstrip(b"\0"))
    if not entry.name or entry.name[:1] == b"\0":
        return None
    file = sockets.socket_file(fd)
    if file is None:
        return _guess(view, name, entry)
    try:
        link = os.readlink(f"/proc/self/fd/{file}")
        found = os.fstat(file)
    finally:
        os.close(file)
    path = link.removesuffix(" (deleted)")
    # A file that was renamed tells nothing of the place of its name.
    end = "/" + name.lstrip("/")
    directory = (path[: -len(end)] or "/") if path.endswith(end) else _origins(view, name)[0]
    try:
        there = Path(path).stat()
        present = (there.st_dev, there.st_ino) == (found.st_dev, found.st_ino)
    except OSError:
        present = False
    if not present and found.st_nlink and path == link:
        reason = f"has the name {path}, which cannot be reached (hidden by a mount, or in another mount namespace)"
        context.refuse(view.pid, view.subject, reason, "unmount what hides the file, or remove it")
    return SocketPlace(directory, path, present, found.st_mode & 0o7777, found.st_uid, found.st_gid)


def _origins(view: FileView, name: str) -> list[str]:
    """What a name may count from: the root or the working directory of those who have the socket."""
    what = "root" if name.startswith("/") else "cwd"
    pids = dict.fromkeys(pid for pid, _fd in view.users or [(view.pid, view.fd)])
    return list(dict.fromkeys(os.readlink(f"/proc/{entry(pid)}/{what}") for pid in pids))


def _guess(view: FileView, name: str, entry: sock_diag.UnixSocket) -> SocketPlace:
    """Without CAP_NET_ADMIN: try the users' directories."""
    origins = _origins(view, name)
    for directory in origins:
        path = Path(directory) / name.lstrip("/")
        try:
            found = path.stat()
        except OSError:
            continue
        if entry.vfs is None or found.st_ino & 0xFFFFFFFF == entry.vfs[0]:
            return SocketPlace(directory, str(path), True, found.st_mode & 0o7777, found.st_uid, found.st_gid)
    return SocketPlace(origins[0], str(Path(origins[0]) / name.lstrip("/")), False, 0o755, 0, 0)


def _waiting(
    view: FileView,
    fd: int,
    entry: sock_diag.UnixSocket,
    table: dict[int, sock_diag.UnixSocket],
    context: CollectContext,
) -> tuple[UnixWaiting, ...]:
    """The connections that a listener has not accepted, with what their clients have sent."""
    sent: list[list[accept_queue.Message]] = [[] for _ in entry.icons]
    if any(ino not in table or table[ino].wqueue for ino in entry.icons):
        try:
            sent = accept_queue.unix(fd)
        except KernelError as error:
            reason = f"has connections that wait to be accepted, with data that cannot be read ({error.message})"
            hint = "run ckpt with CAP_BPF and CAP_PERFMON, or let the task accept them, then dump again"
            context.refuse(view.pid, view.subject, reason, hint)
    known = _known_files(context, [message for messages in sent for message in messages])
    if known is None:
        reason = (
            "has connections that wait to be accepted, and in them files in flight which no task of the tree has open"
        )
        context.refuse(view.pid, view.subject, reason, "let the task accept them, then dump again", passing=True)
        return ()
    return tuple(
        UnixWaiting(ino, tuple(_sent(message, known) for message in messages))
        for ino, messages in zip(entry.icons, sent, strict=False)
    )


def _known_files(context: CollectContext, messages: list[accept_queue.Message]) -> dict[int, int] | None:
    """The file_ids of what is in flight in the messages, by address; None when one is not the tree's."""
    files = {file for message in messages for file in message.files}
    known = inflight.file_ids(context, files)
    return known if len(known) == len(files) else None


def _sent(message: accept_queue.Message, known: dict[int, int]) -> QueuedMessage:
    credentials = (message.pid, message.uid, message.gid) if message.pid else ()
    return QueuedMessage(message.data, files=tuple(known[file] for file in message.files), credentials=credentials)


def _queue(view: FileView, fd: int, kind: int, context: CollectContext) -> tuple[QueuedMessage, ...]:
    if kind == u.SOCK_STREAM:
        messages = peek_stream(fd, sockets.ioctl_int(fd, u.SIOCINQ))
    elif sockets.failed(fd):
        return _failed_queue(view, fd, context)
    else:
        messages = peek_messages(fd)
    # All copies are closed with the context, also when one of them cannot be described.
    for message in messages:
        for copy in message.fds:
            context.stack.callback(os.close, copy)
    records = [_record(view, message, context) for message in messages]
    if kind == u.SOCK_STREAM:
        byte, where = peek_urgent(fd, messages)
        if where >= 0:
            record = records[where]
            records[where : where + 1] = [replace(record, data=byte, urgent=True)]
            if len(record.data) > 1:
                records.insert(where + 1, replace(record, data=record.data[1:], files=()))
    return tuple(records)


def _failed_queue(view: FileView, fd: int, context: CollectContext) -> tuple[QueuedMessage, ...]:
    """The records of a socket that was reset; a peek would get the error, and the task would not."""
    if not sockets.ioctl_int(fd, u.SIOCINQ):
        return ()
    try:
        messages = accept_queue.unix_queue(fd)
    except KernelError as error:
        reason = f"was reset, and its records cannot be read ({error.message})"
        context.refuse(view.pid, view.subject, reason, "run ckpt as root, or let the task read it, then dump again")
        return ()
    known = _known_files(context, messages)
    if known is None:
        reason = "was reset, and in it files are in flight which no task of the tree has open"
        context.refuse(view.pid, view.subject, reason, "let the task read it, then dump again")
        return ()
    return tuple(_sent(message, known) for message in messages)


def _record(view: FileView, message: Message, context: CollectContext) -> QueuedMessage:
    if message.flags & u.MSG_CTRUNC:
        context.refuse(view.pid, view.subject, "has more in flight than can be copied")
    files: list[int] = []
    if message.fds:
        from ckpt.state.files.collect import collect_stolen

        files = [collect_stolen(context, view.in_flight_of or view.pid, copy) for copy in message.fds]
    sender = message.credentials if message.credentials and message.credentials[0] else ()
    return QueuedMessage(message.data, message.name, tuple(files), sender)


KIND = UnixKind()
