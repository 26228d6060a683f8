"""bpf(2): its call, an instruction, and the loading of a program of ours."""

from __future__ import annotations

import ctypes

from ckpt.kernel import uapi_bpf as ub
from ckpt.kernel.libc import syscall


def insn(code: int, dst: int = 0, src: int = 0, off: int = 0, imm: int = 0) -> bytes:
    """One instruction of 8 bytes; LD_IMM64 is followed by another, which has the high word."""
    return ub.bpf_insn.pack(code, dst | src << 4, off, imm)


def bpf(command: int, attributes: bytes) -> int:
    """The result of a command, a descriptor (close-on-exec) of those that open one; KernelError."""
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    return syscall(f"bpf({command})", ub.SYS_bpf, command, buffer, len(attributes))


def load(kind: int, program: bytes, flags: int = 0) -> int:
    """A descriptor of a program of type `kind`, of instructions as `insn` gives them; KernelError."""
    code, licence = ctypes.create_string_buffer(program, len(program)), ctypes.create_string_buffer(b"GPL")
    count, where = len(program) // ub.bpf_insn.size, ctypes.addressof(code)
    attributes = ub.prog_load_attr.pack(kind, count, where, ctypes.addressof(licence), *(0, 0, 0, 0, flags))
    return bpf(ub.BPF_PROG_LOAD, attributes)
