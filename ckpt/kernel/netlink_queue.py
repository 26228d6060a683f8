"""Messages that wait in a netlink socket, read in the kernel's memory: a peek shows only the first."""

from __future__ import annotations

from dataclasses import dataclass

from ckpt.errors import KernelError
from ckpt.kernel.accept_queue import buffers_of, data_of, sock_of
from ckpt.kernel.btf import kernel_types
from ckpt.kernel.kernel_memory import KernelMemory

_TABLE = "/proc/net/netlink"


@dataclass(frozen=True, slots=True)
class Waiting:
    """One message."""

    data: bytes
    portid: int  # of its sender; 0: the kernel
    group: int  # to which it was sent, 0 for this socket alone
    credentials: tuple[int, int, int]  # pid, uid, gid


def messages(fd: int) -> list[Waiting]:
    """Oldest first. Unsupported where the kernel's memory cannot be read."""
    types = kernel_types()

    def number(memory: KernelMemory, skb: int, *names: str) -> int:
        at = skb + types.offset("sk_buff", "cb") + types.offset("netlink_skb_parms", names[0])
        return memory.u32(at + (types.offset("scm_creds", names[1]) if len(names) > 1 else 0))

    with KernelMemory() as memory:
        return [
            Waiting(
                data_of(memory, skb),
                number(memory, skb, "portid"),
                number(memory, skb, "dst_group"),
                (
                    number(memory, skb, "creds", "pid"),
                    number(memory, skb, "creds", "uid"),
                    number(memory, skb, "creds", "gid"),
                ),
            )
            for skb in buffers_of(memory, sock_of(memory, fd))
        ]


def holder(protocol: int, portid: int) -> int:
    """The inode of the socket that has the port of that protocol in this network namespace; 0 for none."""
    try:
        with open(_TABLE) as table:
            rows = [line.split() for line in table][1:]
    except OSError as error:
        raise KernelError(f"reading {_TABLE}: {error.strerror}", errno=error.errno or 0) from None
    return next((int(row[9]) for row in rows if (int(row[1]), int(row[2])) == (protocol, portid)), 0)
