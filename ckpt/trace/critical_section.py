"""Restartable sequences (rseq): a thread that is frozen in a critical section leaves it by its abort handler.

After a stop the kernel sends it there itself, but only while the thread still stands inside when it goes on: a remote
syscall leads it away, and a dump writes down where it stands.
"""

from __future__ import annotations

from ckpt.errors import KernelError
from ckpt.kernel import ptrace_requests as ptrace
from ckpt.kernel import uapi
from ckpt.kernel import uapi_state as us
from ckpt.kernel.memory import Memory
from ckpt.trace.sigframe import ORIG_RAX, RIP, is_foreign, pack, unpack
from ckpt.trace.waits import in_call


def leave(tid: int, gpr: bytes) -> bytes:
    """Of a thread that has just stopped: go to the abort handler when it stands in a critical section.

    `gpr` are its registers (NT_PRSTATUS); gives them as they are then.
    """
    if is_foreign(gpr) or in_call(unpack(gpr)):
        return gpr  # no system call is allowed in one
    moved = aborted(gpr, _section(tid))
    if moved != gpr:
        ptrace.setregset(tid, uapi.NT_PRSTATUS, moved)
    return moved


def _section(tid: int) -> bytes:
    """The struct rseq_cs that the thread has announced, empty when it has none."""
    try:
        address, _, _ = ptrace.get_rseq_configuration(tid)
        if not address:
            return b""
        with Memory(tid) as memory:
            pointer = int.from_bytes(memory.read(address + us.RSEQ_CS_OFFSET, 8), "little")
            return memory.read(pointer, us.rseq_cs.size) if pointer else b""
    except KernelError:
        return b""  # the kernel would end the task at its next look; not ours to judge


def aborted(gpr: bytes, section: bytes) -> bytes:
    """The registers, at the abort handler when they stand inside the section."""
    if not section:
        return gpr
    _version, _flags, start, length, abort = us.rseq_cs.unpack(section)
    r = unpack(gpr)
    if not start <= r[RIP] < start + length:
        return gpr
    r[RIP] = abort
    r[ORIG_RAX] = (1 << 64) - 1
    return pack(r)
