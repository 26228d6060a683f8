"""The code of a skeleton: a static ELF of one page that only waits, and the call that starts it.

The child of that call runs nothing but the few instructions below between clone3 and execve, so threads and
locks of ckpt do not matter to it.
"""

from __future__ import annotations

import ctypes
import mmap
import os

from ckpt.errors import KernelError
from ckpt.kernel import uapi, uapi_restore
from ckpt.kernel.libc import kernel_error, syscall

GADGET = b"\x0f\x05\xcc"  # syscall; int3
AFTER_SYSCALL = 2  # where the instruction pointer stands when the call has returned
AFTER_TRAP = 3

_WAIT = (
    b"\xb8" + uapi_restore.SYS_pause.to_bytes(4, "little")  # 1: mov $SYS_pause, %eax
    + b"\x0f\x05"  # syscall
    + b"\xeb\xf7"  # jmp 1b
)  # fmt: skip

_SPAWN = (
    b"\x53\x41\x54\x41\x55\x41\x56"  # push rbx; push r12; push r13; push r14
    b"\x48\x89\xf3"  # mov rbx, rsi   the memfd
    b"\x49\x89\xd4"  # mov r12, rdx   an empty string
    b"\x49\x89\xcd"  # mov r13, rcx   argv and envp
    b"\xb8\x27\x00\x00\x00\x0f\x05"  # mov eax, SYS_getpid; syscall
    b"\x41\x89\xc6"  # mov r14d, eax
    b"\xbe\x58\x00\x00\x00"  # mov esi, 88   sizeof(struct clone_args)
    b"\xb8\xb3\x01\x00\x00\x0f\x05"  # mov eax, SYS_clone3; syscall
    b"\x48\x85\xc0\x74\x08"  # test rax, rax; jz child
    b"\x41\x5e\x41\x5d\x41\x5c\x5b\xc3"  # pop r14; pop r13; pop r12; pop rbx; ret
    # child: it dies with ckpt from here on
    b"\xbf\x01\x00\x00\x00\xbe\x09\x00\x00\x00"  # mov edi, PR_SET_PDEATHSIG; mov esi, SIGKILL
    b"\xb8\x9d\x00\x00\x00\x0f\x05"  # mov eax, SYS_prctl; syscall
    # unless ckpt has died already; 0: ckpt is outside of its pid namespace, whose init dies with ckpt
    b"\xb8\x6e\x00\x00\x00\x0f\x05"  # mov eax, SYS_getppid; syscall
    b"\x85\xc0\x74\x05"  # test eax, eax; jz execute
    b"\x44\x39\xf0\x75\x19"  # cmp eax, r14d; jne end
    b"\x48\x89\xdf\x4c\x89\xe6\x4c\x89\xea\x4d\x89\xea"  # execute: mov rdi, rbx; rsi, r12; rdx, r13; r10, r13
    b"\x41\xb8\x00\x10\x00\x00"  # mov r8d, AT_EMPTY_PATH
    b"\xb8\x42\x01\x00\x00\x0f\x05"  # mov eax, SYS_execveat; syscall
    b"\x89\xc7\xf7\xdf"  # end: mov edi, eax; neg edi   the errno
    b"\xb8\xe7\x00\x00\x00\x0f\x05"  # mov eax, SYS_exit_group; syscall
    b"\xf4"
)


def elf(address: int) -> bytes:
    """A static executable whose only segment is one read-execute page at `address`."""
    header_size = uapi_restore.ELF_HEADER.size + 2 * uapi_restore.ELF_PROGRAM_HEADER.size
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    header = uapi_restore.ELF_HEADER.pack(
        ident, uapi_restore.ET_EXEC, uapi_restore.EM_X86_64, 1, address + header_size,
        uapi_restore.ELF_HEADER.size, 0, 0, uapi_restore.ELF_HEADER.size,
        uapi_restore.ELF_PROGRAM_HEADER.size, 2, 0, 0, 0,
    )  # fmt: skip
    size = header_size + len(_WAIT)
    load = uapi_restore.ELF_PROGRAM_HEADER.pack(
        uapi_restore.PT_LOAD, uapi_restore.PF_R | uapi_restore.PF_X, 0, address, address, size, size, 4096
    )
    stack = uapi_restore.ELF_PROGRAM_HEADER.pack(
        uapi_restore.PT_GNU_STACK, uapi_restore.PF_R | uapi_restore.PF_W, 0, 0, 0, 0, 0, 16
    )
    return header + load + stack + _WAIT


def _memfd(data: bytes) -> int:
    name = ctypes.create_string_buffer(b"skeleton")
    flags = uapi_restore.MFD_CLOEXEC | uapi_restore.MFD_EXEC
    try:
        fd = syscall("memfd_create", uapi.SYS_memfd_create, name, flags)
    except KernelError as error:
        if error.errno != 22:  # EINVAL: before Linux 6.3 (105ff5339f49) there is no MFD_EXEC
            raise
        fd = syscall("memfd_create", uapi.SYS_memfd_create, name, uapi_restore.MFD_CLOEXEC)
    os.write(fd, data)
    return fd


def start(pid: int, address: int) -> int:
    """Start a process that waits in the stub at `address`; `pid` 0 lets the kernel choose. Gives its pid.

    All signals that the caller blocks are blocked in it; it is killed when ckpt ends. KernelError with EEXIST
    when the pid is taken.
    """
    fd = _memfd(elf(address))
    try:
        wanted = ctypes.c_int(pid)
        flags = uapi.CLONE_VM | uapi.CLONE_VFORK | uapi_restore.CLONE_CLEAR_SIGHAND
        args = ctypes.create_string_buffer(
            uapi_restore.clone_args.pack(
                flags, 0, 0, 0, 17, 0, 0, 0, ctypes.addressof(wanted) if pid else 0, 1 if pid else 0, 0
            ),
            uapi_restore.clone_args.size,
        )
        empty = ctypes.create_string_buffer(b"")
        nothing = (ctypes.c_void_p * 1)()
        with mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC) as code:
            code.write(_SPAWN)
            anchor = ctypes.c_char.from_buffer(code)
            try:
                function = ctypes.CFUNCTYPE(ctypes.c_long, *[ctypes.c_void_p] * 4)(ctypes.addressof(anchor))
                result = int(function(ctypes.addressof(args), fd, ctypes.addressof(empty), ctypes.addressof(nothing)))
            finally:
                del anchor
    finally:
        os.close(fd)
    if result < 0:
        raise kernel_error(f"clone3 with pid {pid}", -result)
    return result
