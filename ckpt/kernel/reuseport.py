"""How the sockets of one port share what comes (SO_REUSEPORT): their program and their order, which no call tells."""

from __future__ import annotations

from ckpt.errors import KernelError
from ckpt.kernel.accept_queue import sock_of
from ckpt.kernel.btf import kernel_types
from ckpt.kernel.kernel_memory import KernelMemory

_MOST = 4096  # BPF_MAXINSNS


def program(fd: int) -> bytes | None:
    """The struct sock_filter array; b"" without one, None for an eBPF program.

    Unsupported where the kernel's memory cannot be read.
    """
    types = kernel_types()
    with KernelMemory() as memory:
        group = memory.u64(sock_of(memory, fd) + types.offset("sock", "sk_reuseport_cb"))
        loaded = memory.u64(group + types.offset("sock_reuseport", "prog")) if group else 0
        if not loaded:
            return b""
        original = memory.u64(loaded + types.offset("bpf_prog", "orig_prog"))
        if not original:
            return None
        count = int.from_bytes(memory.read(original + types.offset("sock_fprog_kern", "len"), 2), "little")
        if not 0 < count <= _MOST:
            raise KernelError(f"a program of {count} instructions is in the kernel's memory")
        return memory.read(memory.u64(original + types.offset("sock_fprog_kern", "filter")), count * 8)


def place(fd: int) -> int | None:
    """Which of the sockets of its port this one is; None when it is alone.

    Unsupported where the kernel's memory cannot be read.
    """
    types = kernel_types()
    with KernelMemory() as memory:
        sk = sock_of(memory, fd)
        group = memory.u64(sk + types.offset("sock", "sk_reuseport_cb"))
        if not group:
            return None
        count = int.from_bytes(memory.read(group + types.offset("sock_reuseport", "num_socks"), 2), "little")
        table = memory.read(group + types.offset("sock_reuseport", "socks"), 8 * count)
        found = [int.from_bytes(table[at : at + 8], "little") for at in range(0, len(table), 8)]
        return found.index(sk) if count > 1 and sk in found else None
