"""Queued messages of sockets: read with MSG_PEEK on a stolen descriptor, nothing is consumed."""

from __future__ import annotations

import os
import select
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from ckpt.errors import KernelError
from ckpt.kernel import sockets
from ckpt.kernel import uapi_socket as u
from ckpt.kernel.sockets import Message
from ckpt.state.files.sockopts import peek_offset

_ROOM = 1 << 18


@contextmanager
def peeking(fd: int) -> Iterator[None]:
    """SO_PEEK_OFF from 0, so that each peek goes on where the last one ended; the old value comes back."""
    before = peek_offset(fd)
    sockets.setsockopt(fd, u.SOL_SOCKET, u.SO_PEEK_OFF, 0)
    try:
        yield
    finally:
        sockets.setsockopt(fd, u.SOL_SOCKET, u.SO_PEEK_OFF, before)


def peek_messages(fd: int) -> list[Message]:
    """Every queued datagram or seqpacket record, oldest first. The caller closes the descriptors in them."""
    # In the usual case, nothing queued, the socket's setting is not touched at all. A look with MSG_PEEK
    # would not do: the kernel marks an empty datagram as peeked, and passes over it when peeking by offset.
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    if not any(event & select.POLLIN for _fd, event in poller.poll(0)):
        return []
    messages: list[Message] = []
    with peeking(fd), _naming_senders(fd), _telling_the_end(fd) as end:
        offset = 0
        while (message := _whole(fd, offset)) is not None and not end(message):
            messages.append(message)
            offset += len(message.data)
    return messages


@contextmanager
def _naming_senders(fd: int) -> Iterator[None]:
    """Where SO_PASSPIDFD alone has a message keep its sender: SO_PASSCRED for the moment, which tells who that is."""
    try:
        kept = sockets.getsockopt_int(fd, u.SOL_SOCKET, u.SO_PASSPIDFD)
    except KernelError:  # an older kernel, or a socket of another family
        kept = 0
    if not kept or sockets.getsockopt_int(fd, u.SOL_SOCKET, u.SO_PASSCRED):
        yield
        return
    sockets.setsockopt(fd, u.SOL_SOCKET, u.SO_PASSCRED, 1)
    try:
        yield
    finally:
        sockets.setsockopt(fd, u.SOL_SOCKET, u.SO_PASSCRED, 0)


@contextmanager
def _telling_the_end(fd: int) -> Iterator[Callable[[Message], bool]]:
    """Tells what a seqpacket socket answers at its end, again and again, from an empty message.

    With SO_PASSCRED a message comes with credentials, if only nobody's; the end comes with none.
    """
    if sockets.getsockopt_int(fd, u.SOL_SOCKET, u.SO_TYPE) != u.SOCK_SEQPACKET:
        yield lambda message: False
        return
    before = sockets.getsockopt_int(fd, u.SOL_SOCKET, u.SO_PASSCRED)
    sockets.setsockopt(fd, u.SOL_SOCKET, u.SO_PASSCRED, 1)
    try:
        yield lambda message: not message.data and message.credentials is None
    finally:
        sockets.setsockopt(fd, u.SOL_SOCKET, u.SO_PASSCRED, before)


def peek_stream(fd: int, queued: int) -> list[Message]:
    """The queued bytes of a stream, `queued` of them (SIOCINQ), cut where descriptors come along."""
    if not queued:
        return []
    with _urgent_inline(fd), _naming_senders(fd):
        return _stream(fd, queued)


@contextmanager
def _urgent_inline(fd: int) -> Iterator[None]:
    """SO_OOBINLINE: a peek at the urgent byte itself would pass over it."""
    before = sockets.getsockopt_int(fd, u.SOL_SOCKET, u.SO_OOBINLINE)
    sockets.setsockopt(fd, u.SOL_SOCKET, u.SO_OOBINLINE, 1)
    try:
        yield
    finally:
        sockets.setsockopt(fd, u.SOL_SOCKET, u.SO_OOBINLINE, before)


def _stream(fd: int, queued: int) -> list[Message]:
    if peek_offset(fd) < 0:
        first = sockets.receive(fd, queued, u.MSG_PEEK)
        if first is not None and len(first.data) == queued and not first.fds:
            return [first]
        for copy in first.fds if first else ():
            os.close(copy)
    messages: list[Message] = []
    with peeking(fd):
        offset = 0
        while offset < queued:
            message = sockets.receive(fd, queued - offset, u.MSG_PEEK)
            if message is None or not message.data:
                raise KernelError(f"only {offset} of {queued} queued bytes of a stream could be read")
            if message.fds:
                start = _start_of_files(fd, offset, len(message.data))
                if start:
                    messages.append(replace(message, data=message.data[:start], fds=()))
                    message = replace(message, data=message.data[start:])
                sockets.setsockopt(fd, u.SOL_SOCKET, u.SO_PEEK_OFF, offset + start + len(message.data))
                offset += start
            messages.append(message)
            offset += len(message.data)
    return messages


def peek_urgent(fd: int, messages: list[Message]) -> tuple[bytes, int]:
    """The byte sent last with MSG_OOB, and which of the peeked messages of a stream begins with it; else b"", -1."""
    if not messages:
        return b"", -1
    inline = sockets.getsockopt_int(fd, u.SOL_SOCKET, u.SO_OOBINLINE)
    if inline:  # it cannot be asked for then
        sockets.setsockopt(fd, u.SOL_SOCKET, u.SO_OOBINLINE, 0)
    try:
        byte = sockets.peek_urgent(fd)
        if not byte:
            return b"", -1
        first = 0 if sockets.ioctl_int(fd, u.SIOCATMARK) else 1  # a peek ends before it
        return byte, next((n for n in range(first, len(messages)) if messages[n].data[:1] == byte), -1)
    finally:
        if inline:
            sockets.setsockopt(fd, u.SOL_SOCKET, u.SO_OOBINLINE, inline)


def _start_of_files(fd: int, offset: int, length: int) -> int:
    """Where in a peek of `length` bytes the write that carries descriptors begins.

    The kernel joins earlier writes with it, but a task that reads only those must not get the descriptors. A peek
    whose buffer ends one byte too early stops before the write that does not fit: there it begins.
    """
    sockets.setsockopt(fd, u.SOL_SOCKET, u.SO_PEEK_OFF, offset)
    return sockets.peek_whole_writes(fd, length, length - 1)


def _whole(fd: int, offset: int) -> Message | None:
    """The message at `offset`, peeked again with more room when the first buffer was too small."""
    room = _ROOM
    while True:
        message = sockets.receive(fd, room, u.MSG_PEEK)
        if message is None or not (message.flags & u.MSG_TRUNC):
            return message
        for copy in message.fds:
            os.close(copy)
        room *= 4
        sockets.setsockopt(fd, u.SOL_SOCKET, u.SO_PEEK_OFF, offset)
