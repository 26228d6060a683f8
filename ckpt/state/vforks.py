"""A thread that waited in vfork(2) for its child, in a task being built.

Only a clone makes the kernel wait so, and this one came long ago. The thread waits for the same event in another way:
the kernel clears and wakes the tid address (set_tid_address) of a task when it executes a program or ends. A child that
has one already gets a robust futex list instead, whose only entry the kernel marks and wakes just before. The wait is
a few instructions in pages of their own, with all signals blocked, as in vfork, and ends in rt_sigreturn.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace

from ckpt.kernel import uapi
from ckpt.kernel import uapi_state as us
from ckpt.records.state import Registers
from ckpt.records.task import ThreadRecord
from ckpt.state.rebuild import rebuilding
from ckpt.trace import sigframe
from ckpt.trace.sigframe import ORIG_RAX, RAX, RIP, RSP, pack, unpack
from ckpt.trace.skeleton import Skeleton

_ALL = (1 << 64) - 1
_SIZE = uapi.PAGE_SIZE + sigframe.MAX_SIZE
_WORD = uapi.PAGE_SIZE  # behind the code
_LIST = _WORD + 16  # robust_list_head; its entry is a pointer before the word
_FRAME = _WORD + 64
_FUTEX_WAITERS = 1 << 31  # include/uapi/linux/futex.h


@dataclass(frozen=True, slots=True)
class Waiting:
    """The records of a thread that waits, and of the first thread of the child that it waits for."""

    thread: ThreadRecord
    child: ThreadRecord


def make_wait(skeleton: Skeleton, record: ThreadRecord, child: ThreadRecord) -> Waiting:
    """When the memory stands, while pages may still be made executable (PR_SET_MDWE)."""
    robust = bool(child.clear_child_tid)
    expected = child.tid | _FUTEX_WAITERS if robust else child.tid
    with rebuilding(skeleton.pid, "a wait in vfork"):
        writable, flags = uapi.PROT_READ | uapi.PROT_WRITE, uapi.MAP_PRIVATE | uapi.MAP_ANONYMOUS
        start = skeleton.syscall(uapi.SYS_mmap, 0, _SIZE, writable, flags, _ALL, 0)
        after = unpack(record.registers.gpr)
        xstate, mark = record.registers.xstate, sigframe.MARK_OF_WAIT
        frame, raw = sigframe.build(start + _FRAME, 0, after, xstate, record.sigmask, mark=mark)
        skeleton.write(start + _FRAME, raw)
        skeleton.write(start + _WORD, expected.to_bytes(4, "little"))
        head, entry = start + _LIST, start + _LIST + us.robust_list_head.size
        skeleton.write(head, us.robust_list_head.pack(entry, start + _WORD - entry, 0) + head.to_bytes(8, "little"))
        skeleton.write(start, _code(start + _WORD, expected, frame + 8))
        skeleton.syscall(uapi.SYS_mprotect, start, uapi.PAGE_SIZE, uapi.PROT_READ | uapi.PROT_EXEC)
    r = list(after)
    r[RIP], r[RSP], r[RAX], r[ORIG_RAX] = start, frame, 0, _ALL
    thread = replace(record, registers=Registers(pack(r), record.registers.xstate), sigmask=_ALL, vfork=0)
    if robust:
        return Waiting(thread, replace(child, robust_list=(start + _LIST, us.robust_list_head.size)))
    return Waiting(thread, replace(child, clear_child_tid=start + _WORD))


def _code(word: int, expected: int, frame: int) -> bytes:
    return b"".join(
        (
            b"\x49\xb8" + struct.pack("<Q", word),  # mov r8, word
            b"\x41\x8b\x10",  # again: mov edx, [r8]
            b"\x81\xfa" + struct.pack("<I", expected),  # cmp edx, expected
            b"\x75\x11",  # jne over
            b"\x4c\x89\xc7",  # mov rdi, r8
            b"\x31\xf6",  # xor esi, esi (FUTEX_WAIT)
            b"\x45\x31\xd2",  # xor r10d, r10d
            b"\xb8" + struct.pack("<I", uapi.SYS_futex),
            b"\x0f\x05",  # syscall
            b"\xeb\xe4",  # jmp again
            b"\x48\xbc" + struct.pack("<Q", frame),  # over: mov rsp, frame
            b"\xb8" + struct.pack("<I", uapi.SYS_rt_sigreturn),
            b"\x0f\x05",  # syscall
        )
    )
