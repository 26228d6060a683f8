"""Which family a socket belongs to, and the sockets that no kind can rebuild."""

from __future__ import annotations

import os
import stat

from ckpt.errors import RestoreError
from ckpt.kernel import sockets
from ckpt.kernel import uapi_socket as u
from ckpt.kernel.descriptors import steal_descriptor
from ckpt.records.base import Record
from ckpt.records.files import FileRecord
from ckpt.records.support import Support
from ckpt.state.context import CollectContext, RestoreContext
from ckpt.state.files.base import FileView

SUPPORT = Support(
    "sockets",
    "other families",
    "",
    refused="vsock, Bluetooth, AF_ALG, XDP, CAN, SMC, TIPC (close them before the dump); "
    "a socket of another network namespace (run ckpt inside it)",
)

_NAMES = {
    40: "vsock",
    31: "Bluetooth",
    38: "kernel crypto (AF_ALG)",
    44: "XDP",
    29: "CAN",
    43: "SMC",
    30: "TIPC",
}

_last: tuple[FileView, int] | None = None


def socket_family(view: FileView) -> int:
    """AF_* of the view's socket; -1 when it is none. The kinds ask in turn: the last is kept."""
    global _last
    if view.fd < 0 or not stat.S_ISSOCK(view.stat.st_mode):
        return -1
    last = _last  # another thread of the program may dump, too
    if last is not None and last[0] is view:
        return last[1]
    fd = steal_descriptor(view.pid, view.fd)
    try:
        family = sockets.getsockopt_int(fd, u.SOL_SOCKET, u.SO_DOMAIN)
    finally:
        os.close(fd)
    _last = (view, family)
    return family


def refuse_foreign_namespace(view: FileView, fd: int, context: CollectContext) -> None:
    """Sockets of another network namespace could not be made from here."""
    if sockets.network_namespace(fd, view.pid) != os.stat("/proc/self/ns/net").st_ino:
        hint = "run ckpt inside that network namespace"
        context.refuse(view.pid, view.subject, "is a socket of another network namespace", hint)


class OtherSocket:
    """Every family without a kind of its own: refused by name."""

    kind = "other-socket"

    def recognises(self, view: FileView) -> bool:
        return socket_family(view) >= 0

    def collect(self, view: FileView, context: CollectContext) -> Record:
        family = socket_family(view)
        name = _NAMES.get(family, f"address family {family}")
        context.refuse(view.pid, view.subject, f"is a {name} socket", "close it before the dump")
        return None

    def restore(self, file: FileRecord, context: RestoreContext) -> int:
        raise RestoreError("a socket of an unknown family cannot be restored")


KIND = OtherSocket()
