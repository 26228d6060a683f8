"""The I/O ports that a thread may use (ioperm)."""

from __future__ import annotations

import errno
from collections.abc import Iterator

import numpy as np

from ckpt.errors import KernelError
from ckpt.kernel import ptrace_requests as ptrace
from ckpt.kernel import uapi
from ckpt.kernel import uapi_state as us
from ckpt.records.seams import RemoteTask
from ckpt.records.support import Support
from ckpt.state.context import CollectContext
from ckpt.state.rebuild import rebuilding

SUPPORT = Support("tasks", "I/O ports", "those allowed by ioperm", lost="iopl, which nothing shows")

_NONE_HERE = "ioports:none-here"


def collect_ports(tid: int, context: CollectContext) -> tuple[tuple[int, int], ...]:
    """(first, number) of each run of ports."""
    if context.shared.get(_NONE_HERE):
        return ()
    try:
        return tuple(allowed(ptrace.getregset(tid, uapi.NT_386_IOPERM)))
    except KernelError as error:
        context.shared[_NONE_HERE] = error.errno == errno.EINVAL  # no CONFIG_X86_IOPL_IOPERM; ENXIO: none yet
        return ()


def allowed(bitmap: bytes) -> Iterator[tuple[int, int]]:
    """The runs of zeros, the lowest bit first."""
    bits = np.unpackbits(np.frombuffer(bitmap, np.uint8), bitorder="little")
    edges = np.flatnonzero(np.diff(np.concatenate([[1], bits, [1]]).astype(np.int8)))
    for first, behind in edges.reshape(-1, 2).tolist():
        yield first, behind - first


def restore_ports(remote: RemoteTask, ports: tuple[tuple[int, int], ...]) -> None:
    """Before the credentials."""
    for first, number in ports:
        with rebuilding(remote.pid, f"I/O ports from {first:#x}", hint="ckpt needs CAP_SYS_RAWIO for them"):
            remote.syscall(us.SYS_ioperm, first, number, 1)
