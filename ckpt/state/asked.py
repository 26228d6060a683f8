"""What a thread alone can tell, asked in one go: a remote syscall by itself takes as long as three in a chain."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from ckpt.kernel import uapi
from ckpt.kernel import uapi_state as us
from ckpt.records.seams import LiveTask
from ckpt.records.state import NumaPolicy, SigAltStack

_NODES = 1024  # bits of a node mask: the most that the kernel can be built for
_UNTOLD = -1  # a mode that no policy has
_answers = struct.Struct(f"<QQii{us.stack_t.size}s{_NODES // 8}s")
_TID_ADDRESS, _PDEATHSIG, _MODE, _TSC, _STACK, _MASK = 0, 8, 16, 20, 24, 24 + us.stack_t.size


@dataclass(frozen=True, slots=True)
class Told:
    """`numa` is None where the thread has no policy of its own, or the kernel no CONFIG_NUMA."""

    clear_child_tid: int
    pdeathsig: int  # 0: none
    altstack: SigAltStack
    numa: NumaPolicy | None
    tsc_mode: int  # PR_TSC_ENABLE (1) or PR_TSC_SIGSEGV (2)


def ask(remote: LiveTask) -> Told:
    """Tid address, parent-death signal, alternate stack, NUMA policy and TSC mode of one thread."""
    room = remote.put(_answers.pack(0, 0, _UNTOLD, 0, b"", b""))
    remote.run_all(
        [
            (uapi.SYS_prctl, us.PR_GET_TID_ADDRESS, room + _TID_ADDRESS, 0, 0, 0),
            (uapi.SYS_prctl, us.PR_GET_PDEATHSIG, room + _PDEATHSIG, 0, 0, 0),
            (uapi.SYS_prctl, us.PR_GET_TSC, room + _TSC, 0, 0, 0),
            (uapi.SYS_sigaltstack, 0, room + _STACK),
            (uapi.SYS_get_mempolicy, room + _MODE, room + _MASK, _NODES, 0, 0),
        ]
    )
    tid_address, pdeathsig, mode, tsc_mode, stack, nodes = _answers.unpack(remote.read(room, _answers.size))
    sp, flags, size = us.stack_t.unpack(stack)
    return Told(
        tid_address,
        pdeathsig,
        # Whether the thread runs on it follows from rsp and is no state of its own.
        SigAltStack(sp, (flags & 0xFFFFFFFF) & ~us.SS_ONSTACK, size),
        NumaPolicy(mode, nodes.rstrip(b"\0")) if mode not in (0, _UNTOLD) else None,
        tsc_mode,
    )
