"""Who made a Unix connection: SO_PEERCRED and SO_PEERGROUPS are the credentials of the task that called.

A pair, a listen and a connect are therefore called in the task that called them once, under the ids that it had; a
task that has ended since is played by a helper with its number. Where that cannot be, ckpt calls itself.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from ckpt.kernel import procfs, sockets, taskinfo, uapi, uapi_files
from ckpt.kernel import uapi_socket as u
from ckpt.kernel.descriptors import steal_descriptor
from ckpt.records.seams import RemoteTask
from ckpt.records.sockets import Identity
from ckpt.state.context import RestoreContext
from ckpt.state.files.channel import hand_over

_KEEP = 0xFFFFFFFF
T = TypeVar("T")


def peer_identity(fd: int) -> Identity | None:
    """Who the kernel says made the other end; None for a socket that never had one."""
    pid, uid, gid = sockets.peer_credentials(fd)
    return Identity(pid, uid, gid, sockets.peer_groups(fd)) if pid else None


def identity_of(pid: int) -> Identity:
    """The identity in which a task would connect now."""
    status = procfs.status(pid)  # of a thread, when it alone has the socket
    ids = taskinfo.ids(status)
    return Identity(int(status["Tgid"]), ids.uids[1], ids.gids[1], ids.groups)


@dataclass
class Actors:
    """Calls on Unix sockets, each in the task whose mark it leaves."""

    context: RestoreContext

    def pair(self, kind: int, who: Identity | None) -> tuple[int, int]:
        """socketpair(2)."""

        def call(task: RemoteTask) -> tuple[int, int]:
            address = task.put(bytes(8))
            task.syscall(u.SYS_socketpair, u.AF_UNIX, kind | u.SOCK_CLOEXEC, 0, address)
            numbers = struct.unpack("<ii", task.read(address, 8))
            stolen = [steal_descriptor(task.pid, number) for number in numbers]
            for number in numbers:
                task.syscall(uapi_files.SYS_close, number)
            return stolen[0], stolen[1]

        return self._run(who, call, lambda: sockets.make_pair(kind))

    def listen(self, fd: int, backlog: int, who: Identity | None) -> None:
        """listen(2); called again it only changes the mark."""

        def call(task: RemoteTask) -> None:
            with self._given(task, fd) as number:
                task.syscall(u.SYS_listen, number, backlog)

        self._run(who, call, lambda: sockets.listen(fd, backlog))

    def connect(self, fd: int, address: bytes, who: Identity | None) -> None:
        """connect(2) to an address that means the same in every task being built."""

        def call(task: RemoteTask) -> None:
            with self._given(task, fd) as number:
                task.syscall(u.SYS_connect, number, task.put(address), len(address))

        self._run(who, call, lambda: sockets.connect(fd, address))

    @contextmanager
    def standing(self, pid: int) -> Iterator[RemoteTask | None]:
        """The task with this number, a helper that has it for the moment, or None."""
        if self.context.acting is None or pid <= 0:
            yield None
            return
        with self.context.acting(pid) as task:
            yield task

    def _run(self, who: Identity | None, call: Callable[[RemoteTask], T], plain: Callable[[], T]) -> T:
        with self.standing(who.pid if who is not None else 0) as task:
            if task is None or who is None:
                return plain()
            with _under(task, who):
                return call(task)

    @contextmanager
    def _given(self, task: RemoteTask, fd: int) -> Iterator[int]:
        number = hand_over(self.context, task, fd)
        try:
            yield number
        finally:
            task.syscall(uapi_files.SYS_close, number)


@contextmanager
def _under(task: RemoteTask, who: Identity) -> Iterator[None]:
    """Its effective ids and groups for the moment; files are still reached with its own rights."""
    now = taskinfo.ids(procfs.status(task.pid, task.tid))
    changed = (who.uid, who.gid, who.groups) != (now.uids[1], now.gids[1], now.groups)
    if not changed or os.geteuid():
        yield
        return
    _become(task, who.uid, who.gid, who.groups)
    try:
        yield
    finally:
        task.syscall(uapi.SYS_setresuid, _KEEP, now.uids[1], _KEEP)
        _become(task, now.uids[1], now.gids[1], now.groups)


def _become(task: RemoteTask, uid: int, gid: int, groups: tuple[int, ...]) -> None:
    packed = struct.pack(f"<{len(groups)}I", *groups)
    task.syscall(uapi.SYS_setgroups, len(groups), task.put(packed) if packed else 0)
    task.syscall(uapi.SYS_setresgid, _KEEP, gid, _KEEP)
    task.syscall(uapi.SYS_setresuid, _KEEP, uid, _KEEP)
    task.syscall(uapi.SYS_setfsuid, 0)
    task.syscall(uapi.SYS_setfsgid, 0)
