"""Bound sockets that a process outside the tree holds, too: a listener of a server whose worker alone was dumped.

Such a socket outlives the dump. It cannot be made again while it has its address, and is taken from its holder.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from ckpt.errors import KernelError
from ckpt.kernel import sockets
from ckpt.kernel.descriptors import steal_descriptor
from ckpt.state.context import RestoreContext


def take(ino: int, name: bytes, context: RestoreContext) -> int | None:
    """A descriptor in ckpt of the socket that had this inode at the dump, if somebody holds it still.

    `name`: the sockaddr by which it is known to be the same. The dumped tasks themselves, where they live on, do not
    count: a restore beside them shares nothing with them.
    """
    tree = {task.pid for task in context.view.records("task")}
    for pid, number in _holders(f"socket:[{ino}]"):
        if pid in tree:
            continue
        try:
            fd = steal_descriptor(pid, number)
        except KernelError:
            continue  # closed in this moment, or of a process that this user may not look into
        if sockets.getsockname(fd) == name:
            return fd
        os.close(fd)
    return None


def _holders(link: str) -> Iterator[tuple[int, int]]:
    for pid in (int(name) for name in os.listdir("/proc") if name.isdigit()):
        try:
            numbers = os.listdir(f"/proc/{pid}/fd")
        except OSError:
            continue
        for number in numbers:
            try:
                if os.readlink(f"/proc/{pid}/fd/{number}") == link:
                    yield pid, int(number)
            except OSError:
                continue
