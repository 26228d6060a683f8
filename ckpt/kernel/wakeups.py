"""When an interrupted wait would have ended: the expiry of its hrtimer, which no file of /proc and no call tells.

A BPF program on the tracepoint hrtimer_cancel notes, for each thread, the expiry of the timer to wake it that was
cancelled last. A thread that is stopped in a timed wait cancels the timer of that wait on its way out. Interrupts take
other timers away while the thread is current; those do not name it as the task to be woken. Nothing is changed on the
machine; the program goes with its descriptors. Of a wait that was interrupted before, as by a stop signal, its restart
block tells.
"""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress

from ckpt.errors import KernelError
from ckpt.kernel import restart_block
from ckpt.kernel import uapi_bpf as ub
from ckpt.kernel.bpf import bpf, insn, load
from ckpt.kernel.kernel_memory import KernelMemory

_SOFTEXPIRES = 32  # of _softexpires in struct hrtimer, behind a timerqueue_node
_SLEEPER_TASK = 64  # of task in struct hrtimer_sleeper, behind its struct hrtimer
_ALARM_DATA = 80  # of data in struct alarm, from its struct hrtimer: the task that sleeps on an alarm clock
_THREADS = 4096  # that cancel a timer while the program is there


def _program(map_fd: int) -> bytes:
    seen = _ALARM_DATA + 8 - _SLEEPER_TASK  # bytes behind the timer that are read to the bottom of the stack
    sleeper, alarm = -24 - seen, -24 - seen + _ALARM_DATA - _SLEEPER_TASK
    space = os.stat("/proc/self/ns/pid")
    write = (
        insn(ub.MOV_X, ub.R1, ub.R10),
        insn(ub.ADD_K, ub.R1, imm=-16),
        insn(ub.MOV_K, ub.R2, imm=8),
        insn(ub.MOV_X, ub.R3, ub.R6),
        insn(ub.ADD_K, ub.R3, imm=_SOFTEXPIRES),
        insn(ub.CALL, imm=ub.BPF_FUNC_probe_read_kernel),
        insn(ub.LD_IMM64, ub.R1, ub.BPF_PSEUDO_MAP_FD, imm=map_fd),
        insn(0),
        insn(ub.MOV_X, ub.R2, ub.R10),
        insn(ub.ADD_K, ub.R2, imm=-8),
        insn(ub.MOV_X, ub.R3, ub.R10),
        insn(ub.ADD_K, ub.R3, imm=-16),
        insn(ub.MOV_K, ub.R4),
        insn(ub.CALL, imm=ub.BPF_FUNC_map_update_elem),
    )
    note = (
        insn(ub.MOV_K, ub.R1, imm=space.st_dev),
        insn(ub.LD_IMM64, ub.R2, imm=_signed(space.st_ino)),
        insn(0),
        insn(ub.MOV_X, ub.R3, ub.R10),
        insn(ub.ADD_K, ub.R3, imm=-8),
        insn(ub.MOV_K, ub.R4, imm=8),
        insn(ub.CALL, imm=ub.BPF_FUNC_get_ns_current_pid_tgid),  # the thread as we know it, as key
        insn(ub.JNE_K, ub.R0, off=len(write), imm=0),  # it is in another pid namespace
        *write,
    )
    return b"".join(
        (
            insn(ub.LDX_DW, ub.R6, ub.R1),  # the timer
            insn(ub.CALL, imm=ub.BPF_FUNC_get_current_task),
            insn(ub.MOV_X, ub.R7, ub.R0),
            insn(ub.MOV_X, ub.R1, ub.R10),
            insn(ub.ADD_K, ub.R1, imm=sleeper),
            insn(ub.MOV_K, ub.R2, imm=seen),
            insn(ub.MOV_X, ub.R3, ub.R6),
            insn(ub.ADD_K, ub.R3, imm=_SLEEPER_TASK),
            insn(ub.CALL, imm=ub.BPF_FUNC_probe_read_kernel),
            insn(ub.LDX_DW, ub.R1, ub.R10, sleeper),
            insn(ub.JEQ_X, ub.R1, ub.R7, 2),
            insn(ub.LDX_DW, ub.R1, ub.R10, alarm),
            insn(ub.JNE_X, ub.R1, ub.R7, len(note)),
            *note,
            insn(ub.MOV_K, ub.R0),
            insn(ub.EXIT),
        )
    )


def _signed(word: int) -> int:
    """The low word of a 64-bit constant, as an instruction holds it."""
    return word - (1 << 32) if word >> 31 else word


class Wakeups:
    """The expiries of the timers that threads cancel from `start` to `close`. Without CAP_BPF it knows nothing."""

    def __init__(self) -> None:
        self._map = -1
        self._descriptors: list[int] = []
        self._memory: KernelMemory | None = None

    def start(self) -> None:
        """Begin to take notes; some milliseconds, so best done before a freeze."""
        if self._descriptors:
            return
        try:
            self._attach()
        except KernelError:
            self.close()

    def _attach(self) -> None:
        attributes = ub.map_create_attr.pack(ub.BPF_MAP_TYPE_HASH, 4, 8, _THREADS, 0)
        self._map = self._keep(bpf(ub.BPF_MAP_CREATE, attributes))
        loaded = self._keep(load(ub.BPF_PROG_TYPE_RAW_TRACEPOINT, _program(self._map)))
        name = ctypes.create_string_buffer(b"hrtimer_cancel")
        self._keep(bpf(ub.BPF_RAW_TRACEPOINT_OPEN, ub.raw_tracepoint_attr.pack(ctypes.addressof(name), loaded)))

    def _keep(self, fd: int) -> int:
        self._descriptors.append(fd)
        return fd

    def expiry(self, tid: int) -> int | None:
        """Nanoseconds on the clock of the wait that a stopped thread was interrupted in; None when unknown."""
        if not self._descriptors:
            return None
        key, value = ctypes.c_uint32(tid), ctypes.c_uint64()
        try:
            bpf(
                ub.BPF_MAP_LOOKUP_ELEM,
                ub.map_elem_attr.pack(self._map, ctypes.addressof(key), ctypes.addressof(value), 0),
            )
        except KernelError:
            return None
        return value.value

    def resumed_until(self, pid: int, tid: int, nr: int) -> int | None:
        """As `expiry`, of the call `nr` that a stopped thread resumes from its restart block; None when unknown."""
        if not self._descriptors:
            return None
        try:
            if self._memory is None:
                self._memory = KernelMemory()
            return restart_block.expiry(self._memory, pid, tid, nr)
        except KernelError:
            return None

    def close(self) -> None:
        """Detach the program; safe to call twice."""
        if self._memory is not None:
            self._memory.close()
            self._memory = None
        while self._descriptors:
            with suppress(OSError):
                os.close(self._descriptors.pop())
