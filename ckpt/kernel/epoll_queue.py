"""Which watches of an epoll set wait to be reported: its ready list. poll(2) tells only whether it is empty."""

from __future__ import annotations

from ckpt.errors import KernelError
from ckpt.kernel.btf import kernel_types
from ckpt.kernel.kernel_memory import KernelMemory

_LIMIT = 1 << 20  # watches beyond which something is wrong


def waiting(fd: int) -> set[tuple[int, int]]:
    """(number, data) of each watch in the ready list of the epoll instance behind one of our descriptors.

    Unsupported where the kernel's memory cannot be read.
    """
    types = kernel_types()
    number = types.offset("epitem", "ffd") + types.offset("epoll_filefd", "fd")
    data = types.offset("epitem", "event") + types.offset("epoll_event", "data")
    found: set[tuple[int, int]] = set()
    with KernelMemory() as memory:
        head = memory.private(fd) + types.offset("eventpoll", "rdllist")
        node = memory.u64(head)
        for _ in range(_LIMIT):
            if node == head:
                return found
            item = node - types.offset("epitem", "rdllink")
            found.add((memory.u32(item + number), memory.u64(item + data)))
            node = memory.u64(node)
    raise KernelError("a list in the kernel's memory has no end")
