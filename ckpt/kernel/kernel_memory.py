"""Reading the kernel's own memory, for state that no interface shows; by a BPF program of a dozen instructions.

The program reads what `bpf_probe_read_kernel` can read, and changes nothing. It needs CAP_BPF and CAP_PERFMON.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import struct
from collections.abc import Callable
from pathlib import Path

from ckpt.errors import KernelError, Unsupported
from ckpt.kernel import uapi
from ckpt.kernel import uapi_bpf as ub
from ckpt.kernel.bpf import bpf, insn, load
from ckpt.kernel.btf import kernel_types
from ckpt.kernel.libc import syscall

_VALUE = 4096  # bytes that one run reads at most
_GIB = 1 << 30
_MOST = 64  # GiB of memory among which the direct mapping is looked for, below an address that lies in it


def _program(map_fd: int) -> bytes:
    """(address, size) in the context: the bytes there go into the map; address 0: the address of our task_struct."""
    return b"".join(
        (
            insn(ub.MOV_X, ub.R6, ub.R1),  # the context
            insn(ub.LD_IMM64, ub.R1, ub.BPF_PSEUDO_MAP_VALUE, imm=map_fd),
            insn(0),
            insn(ub.MOV_X, ub.R7, ub.R1),
            insn(ub.LDX_DW, ub.R2, ub.R6, 8),  # size
            insn(ub.JGT_K, ub.R2, off=7, imm=_VALUE),  # to the failure
            insn(ub.LDX_DW, ub.R3, ub.R6, 0),  # address
            insn(ub.JNE_K, ub.R3, off=3, imm=0),  # to the read
            insn(ub.CALL, imm=ub.BPF_FUNC_get_current_task),
            insn(ub.STX_DW, ub.R7, ub.R0),
            insn(ub.JA, off=4),  # to the success
            insn(ub.CALL, imm=ub.BPF_FUNC_probe_read_kernel),  # the read
            insn(ub.EXIT),
            insn(ub.MOV_K, ub.R0, imm=-1),  # the failure
            insn(ub.EXIT),
            insn(ub.MOV_K, ub.R0),  # the success
            insn(ub.EXIT),
        )
    )


def _percpu_program(map_fd: int, percpu_fd: int) -> bytes:
    """(cpu, …) in the context: the address of that CPU's value of a map that has one for each goes into the map."""
    return b"".join(
        (
            insn(ub.LDX_DW, ub.R3, ub.R1),  # cpu
            insn(ub.LD_IMM64, ub.R7, ub.BPF_PSEUDO_MAP_VALUE, imm=map_fd),
            insn(0),
            insn(ub.LD_IMM64, ub.R1, ub.BPF_PSEUDO_MAP_FD, imm=percpu_fd),
            insn(0),
            insn(ub.MOV_K, ub.R0),
            insn(ub.STX_DW, ub.R10, ub.R0, -8),
            insn(ub.MOV_X, ub.R2, ub.R10),
            insn(ub.ADD_K, ub.R2, imm=-8),  # key 0
            insn(ub.CALL, imm=ub.BPF_FUNC_map_lookup_percpu_elem),
            insn(ub.JNE_K, ub.R0, off=2, imm=0),  # to the success
            insn(ub.MOV_K, ub.R0, imm=-errno.ENOENT),
            insn(ub.EXIT),
            insn(ub.STX_DW, ub.R7, ub.R0),  # the success
            insn(ub.MOV_K, ub.R0),
            insn(ub.EXIT),
        )
    )


def possible_cpus() -> list[int]:
    """The numbers of the CPUs that this kernel keeps data for."""
    found: list[int] = []
    for part in Path("/sys/devices/system/cpu/possible").read_text().split(","):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


class KernelMemory:
    """The open way into the kernel; a context manager. Unsupported when this kernel or user has none."""

    def __init__(self) -> None:
        self._map = self._loaded = -1
        self._more: list[int] = []  # programs of `add`
        self._cpu_offsets: list[int] = []  # of `percpu`
        try:
            attributes = ub.map_create_attr.pack(ub.BPF_MAP_TYPE_ARRAY, 4, _VALUE, 1, ub.BPF_F_MMAPABLE)
            self._map = bpf(ub.BPF_MAP_CREATE, attributes)
            self._value = mmap.mmap(self._map, _VALUE, mmap.MAP_SHARED, mmap.PROT_READ)
            self._loaded = load(ub.BPF_PROG_TYPE_SYSCALL, _program(self._map), ub.BPF_F_SLEEPABLE)
        except (KernelError, OSError) as error:
            self._close()
            raise Unsupported(f"the kernel's memory cannot be read: {error}") from None
        self._pages: tuple[int, int] | None = None

    def __enter__(self) -> KernelMemory:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave nothing open."""
        self._value.close()
        self._close()

    def read(self, address: int, size: int) -> bytes:
        """Bytes of kernel memory; KernelError where nothing is mapped."""
        parts = []
        while size:
            part = min(size, _VALUE)
            self._run(address, part)
            parts.append(self._value[:part])
            address, size = address + part, size - part
        return b"".join(parts)

    def u64(self, address: int) -> int:
        return int.from_bytes(self.read(address, 8), "little")

    def u32(self, address: int) -> int:
        return int.from_bytes(self.read(address, 4), "little")

    def add(self, program: Callable[[int], bytes]) -> int:
        """Load another program, made for the number of the map in which it answers; gives its own for `answer`."""
        self._more.append(load(ub.BPF_PROG_TYPE_SYSCALL, program(self._map), ub.BPF_F_SLEEPABLE))
        return self._more[-1]

    def answer(self, program: int, first: int, second: int, size: int) -> bytes:
        """What a program of `add` leaves in the map when its context holds these two numbers."""
        self._run(first, second, program)
        return self._value[:size]

    def file(self, fd: int) -> int:
        """The address of the struct file behind one of our descriptors."""
        types = kernel_types()
        self._run(0, 8)
        task = int.from_bytes(self._value[:8], "little")
        files = self.u64(task + types.offset("task_struct", "files"))
        table = self.u64(files + types.offset("files_struct", "fdt"))
        return self.u64(self.u64(table + types.offset("fdtable", "fd")) + 8 * fd)

    def private(self, fd: int) -> int:
        """file->private_data: the struct socket or struct pipe_inode_info of one of our descriptors."""
        return self.u64(self.file(fd) + kernel_types().offset("file", "private_data"))

    def percpu(self, pointer: int) -> list[int]:
        """The addresses behind a __percpu pointer, one for each CPU that may be here. The first use loads a program."""
        if not self._cpu_offsets:
            attributes = ub.map_create_attr.pack(ub.BPF_MAP_TYPE_PERCPU_ARRAY, 4, 8, 1, 0)
            percpu = bpf(ub.BPF_MAP_CREATE, attributes)
            try:
                known = self.u64(self.private(percpu) + kernel_types().offset("bpf_array", "pptrs"))
                program = self.add(lambda answers: _percpu_program(answers, percpu))
                self._cpu_offsets = [
                    int.from_bytes(self.answer(program, cpu, 0, 8), "little") - known for cpu in possible_cpus()
                ]
            finally:
                os.close(percpu)
        return [pointer + offset for offset in self._cpu_offsets]

    def page(self, page: int) -> int:
        """The address at which a struct page's memory is mapped."""
        if self._pages is None:
            self._pages = self._find_pages()
        vmemmap, direct = self._pages
        return direct + (page - vmemmap) // kernel_types().size("page") * mmap.PAGESIZE

    def _find_pages(self) -> tuple[int, int]:
        """vmemmap_base and page_offset_base, which KASLR moves, by way of a page of ours that a pipe holds."""
        types = kernel_types()
        with mmap.mmap(-1, mmap.PAGESIZE) as area:
            area[:] = known = os.urandom(mmap.PAGESIZE)
            address = ctypes.addressof(ctypes.c_char.from_buffer(area))
            with open("/proc/self/pagemap", "rb") as pagemap:
                pagemap.seek(address // mmap.PAGESIZE * 8)
                pfn = int.from_bytes(pagemap.read(8), "little") & (1 << 55) - 1
            reader, writer = os.pipe()
            try:
                vector = struct.pack("<QQ", address, mmap.PAGESIZE)
                syscall("vmsplice", uapi.SYS_vmsplice, writer, ctypes.create_string_buffer(vector), 1, 0)
                pipe = self.private(reader)
                buffers = self.u64(pipe + types.offset("pipe_inode_info", "bufs"))
                page = self.u64(buffers + types.offset("pipe_buffer", "page"))
            finally:
                os.close(reader)
                os.close(writer)
            top = pipe // _GIB * _GIB  # the pipe lies in the direct mapping, which begins at a multiple of 1 GiB
            for base in range(top, top - _MOST * _GIB, -_GIB):
                try:
                    if self.read(base + pfn * mmap.PAGESIZE, 64) == known[:64]:
                        return page - pfn * types.size("page"), base
                except KernelError:
                    continue
        raise Unsupported("the kernel's mapping of memory was not found")

    def _run(self, address: int, size: int, program: int = -1) -> None:
        # What was read may be of something that has just ended, and no address: nothing is mapped there.
        context = ctypes.create_string_buffer(struct.pack("<QQ", address % (1 << 64), size), 16)
        where = ctypes.addressof(context)
        program = self._loaded if program < 0 else program
        attributes = ub.prog_test_run_attr.pack(program, 0, 0, 0, 0, 0, 0, 0, 16, 0, where, 0, 0, 0, 0)
        buffer = ctypes.create_string_buffer(attributes, len(attributes))
        syscall("bpf(BPF_PROG_TEST_RUN)", ub.SYS_bpf, ub.BPF_PROG_TEST_RUN, buffer, len(attributes))
        if result := int(struct.unpack_from("<i", buffer.raw, 4)[0]):
            raise KernelError(f"kernel memory at {address:#x}: {os.strerror(-result)}", errno=-result)

    def _close(self) -> None:
        for fd in (self._map, self._loaded, *self._more):
            if fd >= 0:
                os.close(fd)
