"""The list of file kinds, in the order in which they are asked.

Kinds that know their file by a sure sign (a socket, an anonymous inode, a device number) come first;
`regular` takes what is left, and comes last.
"""

from __future__ import annotations

from ckpt.errors import RestoreError
from ckpt.state.files import (
    bpfmap,
    devices,
    epoll,
    eventfd,
    fanotify,
    ghost,
    inet,
    inotify,
    memfd,
    mqueue,
    netlink,
    packet,
    pidfd,
    pipes,
    places,
    pressure,
    procfiles,
    refused,
    regular,
    signalfd,
    sockfamily,
    timerfd,
    tty,
    unix,
)
from ckpt.state.files.base import FileKind

# Sockets, terminals and message queues.
SOCKET_KINDS: list[FileKind] = [
    unix.KIND,
    inet.KIND,
    netlink.KIND,
    packet.KIND,
    sockfamily.KIND,
    tty.KIND,
    mqueue.KIND,
]

# Everything that is opened by path, and the descriptors of anonymous inodes.
PLAIN_KINDS: list[FileKind] = [
    pipes.KIND,
    devices.KIND,
    eventfd.KIND,
    timerfd.KIND,
    signalfd.KIND,
    epoll.KIND,
    inotify.KIND,
    fanotify.KIND,
    pidfd.KIND,
    memfd.KIND,
    bpfmap.KIND,
    refused.KIND,
    places.KIND,
    pressure.KIND,
    procfiles.NAMESPACES,
    procfiles.KIND,
    ghost.KIND,
    regular.KIND,
]

KINDS: list[FileKind] = [*SOCKET_KINDS, *PLAIN_KINDS]

# What a descriptor with O_PATH can stand for: the file's place, whatever the file is.
PATH_KINDS: list[FileKind] = [procfiles.KIND, ghost.KIND, places.KIND, regular.KIND]

BY_NAME: dict[str, FileKind] = {kind.kind: kind for kind in KINDS}


def kind_named(name: str) -> FileKind:
    """The kind that restores records of this name; RestoreError when this ckpt has none."""
    kind = BY_NAME.get(name)
    if kind is None:
        raise RestoreError(
            f"the image holds an open file of kind {name!r}, which this version of ckpt does not know",
            hint="restore with the version of ckpt that made the image",
        )
    return kind
