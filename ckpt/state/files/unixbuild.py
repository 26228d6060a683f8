"""Making the Unix sockets of an image again, all at once: names, pairs, backlogs, then queues and shutdowns.

The order: listeners first; pairs and single sockets, bound to their names; connections whose end has
the name of a listener by connect and accept, while its backlog is still empty. Then, when every file is open:
datagrams, the connections of datagram sockets, stream data with the descriptors in flight, shutdowns, and last
the backlogs.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field, replace

from ckpt.errors import KernelError
from ckpt.kernel import sock_diag, sockets
from ckpt.kernel import uapi_socket as u
from ckpt.records.sockets import Identity, UnixPayload, UnixWaiting
from ckpt.state.context import RestoreContext
from ckpt.state.files import outside, unixqueue
from ckpt.state.files.sockopts import apply_options
from ckpt.state.files.unixactors import Actors
from ckpt.state.files.unixdgram import NOBODY, connect_datagrams, made_by_name, part_halves
from ckpt.state.files.unixnames import Names, address, show
from ckpt.state.rebuild import failed

__all__ = ["Sockets", "build_all", "show"]

_KEY = "unix:sockets"
_SPARE_BACKLOG = 8
_ON_SENDING = {(u.SOL_SOCKET, name) for name in (u.SO_PASSCRED, u.SO_PASSSEC, u.SO_PASSPIDFD, u.SO_PASSRIGHTS)}


@dataclass
class Sockets:
    """The Unix sockets of one restore."""

    context: RestoreContext
    payloads: dict[int, UnixPayload]  # by file_id
    file_ids: dict[int, int] = field(default_factory=dict)  # inode -> file_id
    made: dict[int, int] = field(default_factory=dict)  # file_id -> descriptor
    lost: dict[int, int] = field(default_factory=dict)  # file_id -> the stand-in for a peer that is closed
    names: Names = field(default_factory=Names)
    spare: dict[tuple[bytes, int], int] = field(default_factory=dict)  # name, type -> a listener made for the moment
    marks: dict[int, Identity | None] = field(default_factory=dict)  # listener -> whose listen it shows
    halves: dict[int, int] = field(default_factory=dict)  # file_id -> the other of its pair, which has left it
    shared: set[bytes] = field(default_factory=set)  # names of listeners that a process outside holds, too
    living: set[int] = field(default_factory=set)  # file_ids of other bound sockets, as are those in `shared`
    pairs_: dict[int, int] | None = None  # what `pairs` has found

    @property
    def actors(self) -> Actors:
        return Actors(self.context)

    def peer_of(self, file_id: int) -> int | None:
        """The file_id of the other end, if it is in the image."""
        payload = self.payloads[file_id]
        return self.file_ids.get(payload.peer_ino) if payload.peer_ino else None

    def mutual(self, file_id: int) -> int | None:
        """The other end, if it has this socket as its peer too."""
        peer = self.peer_of(file_id)
        return peer if peer is not None and self.peer_of(peer) == file_id else None

    def pairs(self) -> dict[int, int]:
        """Both ends of what is made with both at once: file_id -> the other end."""
        if self.pairs_ is None:
            found = {one: peer for one in self.payloads if (peer := self.mutual(one)) is not None and peer != one}
            apart = made_by_name(self)
            self.pairs_ = {one: peer for one, peer in found.items() if one not in apart}
        return self.pairs_


def build_all(context: RestoreContext) -> dict[int, int]:
    """Every Unix socket of the image: file_id -> descriptor in ckpt. Made on the first call."""
    known: Sockets | None = context.shared.get(_KEY)
    if known is None:
        payloads = {file_id: file.payload for file_id, file in context.files.items() if file.kind == "unix-socket"}
        known = Sockets(context, payloads)
        known.file_ids = {payload.ino: file_id for file_id, payload in payloads.items()}
        context.shared[_KEY] = known
        context.stack.callback(known.names.discard)
        try:
            _build(known)
        except KernelError as error:
            raise failed("the Unix sockets", error) from error
        context.when_opened(lambda: _finish(known))
    return known.made


def _build(all_: Sockets) -> None:
    crowd = Counter(p.name for p in all_.payloads.values() if p.name)
    # Sockets whose file is no longer at its name first: the one that is there must be bound last.
    order = sorted(all_.payloads, key=lambda i: bool((place := all_.payloads[i].place) and place.present))
    for file_id in order:
        payload = all_.payloads[file_id]
        if payload.listening and _share(all_, file_id):
            all_.shared.add(payload.name)
        elif payload.listening:
            fd = _single(all_, file_id)
            _listen(all_, fd, payload.backlog, payload.made_by)
    # Pairs before what could also be made alone, and those first that nothing but a pair can be.
    for file_id in sorted(order, key=lambda i: (not _left_alone(all_, i), bool(all_.payloads[i].peer_name))):
        payload = all_.payloads[file_id]
        if file_id in all_.made or payload.pending_on:
            continue
        peer = all_.pairs().get(file_id)
        if not payload.connected and payload.made_by is None and _share(all_, file_id):
            all_.living.add(file_id)
        elif peer is not None:
            _connected(all_, file_id, peer, crowd)
        elif _left_alone(all_, file_id):
            _half(all_, file_id)
        elif payload.connected and (payload.type != u.SOCK_DGRAM or _lost_pair(all_, file_id)):
            _widowed(all_, file_id, crowd)
        else:
            _single(all_, file_id)
    for file_id, payload in all_.payloads.items():
        if payload.pending_on:
            _single(all_, file_id)
    for fd in all_.spare.values():
        all_.names.close(fd)
    all_.spare.clear()


def _share(all_: Sockets, file_id: int) -> bool:
    """Take a socket that nobody else is connected to from a process outside that holds it, too."""
    payload = all_.payloads[file_id]
    if not payload.name or payload.ino not in _alive(all_.context):
        return False
    fd = outside.take(payload.ino, address(payload.name), all_.context)
    if fd is None:
        return False
    all_.made[file_id] = fd
    all_.names.bound[fd] = payload.name, ""
    return True


def _alive(context: RestoreContext) -> set[int]:
    """The inodes of the Unix sockets that there are, without those of this restore."""
    if "unix:alive" not in context.shared:
        try:
            context.shared["unix:alive"] = set(sock_diag.unix_sockets())
        except KernelError:  # this kernel has no table of them
            context.shared["unix:alive"] = set()
    found: set[int] = context.shared["unix:alive"]
    return found


def _keep(all_: Sockets, file_id: int, fd: int) -> None:
    """What changes a message comes when all is sent: SO_PASSCRED gives the sender a name, and adds credentials.

    Those of a listener are for its connections, too.
    """
    all_.made[file_id] = fd
    payload = all_.payloads[file_id]
    options = payload.options
    if not payload.listening:
        options = replace(options, values=tuple(o for o in options.values if (o.level, o.name) not in _ON_SENDING))
    apply_options(fd, options, final=False)


def _single(all_: Sockets, file_id: int) -> int:
    """A socket on its own, bound to its name."""
    payload = all_.payloads[file_id]
    if payload.type == u.SOCK_DGRAM and payload.made_by is not None:  # it was one of a pair
        fd, other = all_.actors.pair(payload.type, payload.made_by)
        os.close(other)
        sockets.connect(fd, NOBODY)
    else:
        fd = sockets.make_socket(u.AF_UNIX, payload.type)
    _keep(all_, file_id, fd)
    _bind(all_, fd, payload)
    return fd


def _bind(all_: Sockets, fd: int, payload: UnixPayload) -> None:
    if payload.name:
        all_.names.bind(fd, payload.name, payload.place)


def _connected(all_: Sockets, file_id: int, peer: int, crowd: Counter[bytes]) -> None:
    """Both ends of a connection. An end that shares its name was born by accept, from a listener so named."""
    first, second = all_.payloads[file_id], all_.payloads[peer]
    by_two = first.made_by != second.made_by  # so it was no socketpair
    if _was_accepted(first, second, crowd, by_two):
        client, server = _through_listener(all_, second, first)
        made = {peer: client, file_id: server}
    elif _was_accepted(second, first, crowd, by_two) or (second.type != u.SOCK_DGRAM and by_two and second.name):
        client, server = _through_listener(all_, first, second)
        made = {file_id: client, peer: server}
    else:
        left, right = all_.actors.pair(first.type, first.made_by)
        made = {file_id: left, peer: right}
        _bind(all_, left, first)
        _bind(all_, right, second)
    for number, fd in made.items():
        _keep(all_, number, fd)


def _was_accepted(one: UnixPayload, other: UnixPayload, crowd: Counter[bytes], by_two: bool) -> bool:
    """Whether an end has its name from a listener: it keeps no abstract name from others when that is gone."""
    if one.type == u.SOCK_DGRAM or not one.name:
        return False
    return crowd[one.name] > 1 or (not other.name and (by_two or one.name[:1] == b"\0"))


def _left_alone(all_: Sockets, file_id: int) -> bool:
    """A datagram socket of a socketpair whose other end has been connected elsewhere, or to nothing."""
    peer = all_.peer_of(file_id)
    if peer is None or all_.mutual(file_id) is not None or all_.mutual(peer) is not None or peer in all_.made:
        return False
    both = all_.payloads[file_id], all_.payloads[peer]
    return all(payload.type == u.SOCK_DGRAM and payload.made_by is not None for payload in both)


def _half(all_: Sockets, file_id: int) -> None:
    peer = all_.peer_of(file_id)
    assert peer is not None
    one, other = all_.actors.pair(u.SOCK_DGRAM, all_.payloads[file_id].made_by)
    for number, fd in ((file_id, one), (peer, other)):
        _bind(all_, fd, all_.payloads[number])
        _keep(all_, number, fd)
    all_.halves[file_id] = peer


def _lost_pair(all_: Sockets, file_id: int) -> bool:
    """A datagram socket of a socketpair whose other end is gone: nothing else is connected to a nameless one."""
    payload = all_.payloads[file_id]
    nameless = not payload.peer_name or (payload.made_by is not None and not payload.peer_ino and not payload.name)
    return nameless and all_.peer_of(file_id) is None


def _widowed(all_: Sockets, file_id: int, crowd: Counter[bytes]) -> None:
    """An end whose peer is closed, or outside the tree: the stand-in is closed when its data is sent."""
    payload = all_.payloads[file_id]
    named = bool(payload.peer_name) and payload.peer_name != payload.name and _may_bind(all_, payload)
    place = all_.names.passing_place(payload.peer_name) if named else None
    stand_in = UnixPayload(
        0, payload.type, False, 0, payload.peer_name if named else b"", place, True, 0, b"", 0, 0, (),
        payload.options, payload.made_by,
    )  # fmt: skip
    if _was_accepted(payload, stand_in, crowd, by_two=False):
        other, fd = _through_listener(all_, stand_in, payload)
    elif named and payload.type != u.SOCK_DGRAM:
        fd, other = _through_listener(all_, payload, stand_in)
    else:
        fd, other = all_.actors.pair(payload.type, payload.made_by)
        _bind(all_, fd, payload)
        _bind(all_, other, stand_in)
    _keep(all_, file_id, fd)
    all_.lost[file_id] = other


def _may_bind(all_: Sockets, payload: UnixPayload) -> bool:
    """Whether a stand-in can take its name without disturbing anybody: it is only what getpeername shows."""
    name = payload.peer_name
    if name[:1] != b"\0":
        return all_.names.can_pass(name)
    if (name, payload.type) in all_.spare or any(p.listening and p.name == name for p in all_.payloads.values()):
        return True
    probe = sockets.make_socket(u.AF_UNIX, payload.type)
    try:
        sockets.bind(probe, address(name))
    except KernelError:
        return False
    finally:
        os.close(probe)
    return True


def _through_listener(all_: Sockets, client: UnixPayload, server: UnixPayload) -> tuple[int, int]:
    """A connection made by connect and accept, so that the server's end has the listener's name.

    Beside a listener that others hold, too, no other can have its abstract name: the end goes without.
    """
    if server.name in all_.shared and server.place is None:
        left, right = all_.actors.pair(client.type, client.made_by)
        _bind(all_, left, client)
        return left, right
    listener, backlog = _listener(all_, server)
    if all_.marks.get(listener) != client.made_by:
        _listen(all_, listener, backlog, client.made_by)
    fd = sockets.make_socket(u.AF_UNIX, client.type)
    try:
        _bind(all_, fd, client)
        _connect(all_, fd, listener, server.made_by)
        return fd, sockets.accept(listener)
    except BaseException:
        os.close(fd)
        raise


def _listen(all_: Sockets, fd: int, backlog: int, who: Identity | None) -> None:
    all_.actors.listen(fd, backlog, who)
    all_.marks[fd] = who


def _connect(all_: Sockets, fd: int, listener: int, who: Identity | None) -> None:
    with all_.names.reach(listener) as where:
        all_.actors.connect(fd, where, who)


def _listener(all_: Sockets, server: UnixPayload) -> tuple[int, int]:
    """The listener of the image with the server's name, else a spare one; and its backlog."""
    for file_id, payload in all_.payloads.items():
        if payload.name in all_.shared:
            continue  # others would accept from it
        if payload.listening and payload.name == server.name and payload.type == server.type:
            return all_.made[file_id], payload.backlog
    fd = all_.spare.get((server.name, server.type))
    if fd is None:
        fd = sockets.make_socket(u.AF_UNIX, server.type)
        all_.spare[server.name, server.type] = fd
        place = server.place
        if place is not None and server.name in all_.shared:  # the file is the living listener's
            place = replace(place, present=False)
        all_.names.bind(fd, server.name, place)
        sockets.listen(fd, _SPARE_BACKLOG)
    return fd, _SPARE_BACKLOG


def _finish(all_: Sockets) -> None:
    """When every file is open: what is queued, who is connected, what is shut, who waits to be accepted."""
    try:
        unixqueue.fill_halves(all_)
        part_halves(all_)
        unixqueue.fill_datagrams(all_)
        connect_datagrams(all_)
        unixqueue.fill_streams(all_)
        for file_id, fd in all_.lost.items():
            if all_.payloads[file_id].reset and all_.payloads[file_id].type != u.SOCK_DGRAM:
                sockets.send(all_.made[file_id], b"\0")  # unread when the stand-in ends: the kernel notes a reset
            all_.names.close(fd)
        all_.lost.clear()
        for file_id, payload in all_.payloads.items():
            if file_id in all_.living:
                continue
            if payload.shutdown and (payload.peer_ino or payload.type == u.SOCK_DGRAM or not payload.connected):
                _shut(all_, file_id, payload)
        _fill_backlogs(all_)
        for file_id, payload in all_.payloads.items():
            if payload.listening and payload.shutdown and payload.name not in all_.shared:
                sockets.shutdown(all_.made[file_id], payload.shutdown - 1)  # nobody can connect any more
        for file_id, payload in all_.payloads.items():
            if file_id in all_.living or (payload.listening and payload.name in all_.shared):
                continue
            subject = f"Unix socket {show(payload.name)}"
            apply_options(all_.made[file_id], payload.options, final=True, subject=subject)
    except KernelError as error:
        raise failed("the Unix sockets", error) from error
    all_.names.settle()


def _shut(all_: Sockets, file_id: int, payload: UnixPayload) -> None:
    if payload.listening:
        return
    sockets.shutdown(all_.made[file_id], payload.shutdown - 1)


def _fill_backlogs(all_: Sockets) -> None:
    """Connections that wait to be accepted: connected last, as accepted ends went through the listener."""
    for file_id, payload in all_.payloads.items():
        fd = all_.made[file_id]
        if payload.listening and payload.name not in all_.shared and all_.marks.get(fd) != payload.made_by:
            _listen(all_, fd, payload.backlog, payload.made_by)
    for file_id, payload in all_.payloads.items():
        listener = all_.made[file_id]
        for waiting in payload.waiting:
            client = all_.file_ids.get(waiting.client)
            if client is not None:
                _wait(all_, all_.made[client], listener, waiting, all_.payloads[client].connector)
                if all_.payloads[client].shutdown:
                    _shut(all_, client, all_.payloads[client])
            elif not waiting.client and payload.name not in all_.shared:
                fd = sockets.make_socket(u.AF_UNIX, payload.type)
                try:
                    _wait(all_, fd, listener, waiting, None)
                finally:
                    os.close(fd)


def _wait(all_: Sockets, fd: int, listener: int, waiting: UnixWaiting, who: Identity | None) -> None:
    """Connect `fd` to the listener, to be accepted by the task, with what it had sent."""
    _connect(all_, fd, listener, who)
    unixqueue.send_all(all_, fd, waiting.sent)
