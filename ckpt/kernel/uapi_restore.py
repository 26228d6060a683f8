"""Kernel names that only restore needs, verbatim; x86_64."""

from __future__ import annotations

import struct

from ckpt.kernel.uapi import SYS_close as SYS_close
from ckpt.kernel.uapi_files import F_ADD_SEALS as F_ADD_SEALS
from ckpt.kernel.uapi_state import PR_SET_CHILD_SUBREAPER as PR_SET_CHILD_SUBREAPER
from ckpt.kernel.uapi_state import PR_SET_DUMPABLE as PR_SET_DUMPABLE
from ckpt.kernel.uapi_state import PR_SET_NAME as PR_SET_NAME
from ckpt.kernel.uapi_state import PR_SET_PDEATHSIG as PR_SET_PDEATHSIG
from ckpt.kernel.uapi_state import PR_SET_THP_DISABLE as PR_SET_THP_DISABLE
from ckpt.kernel.uapi_state import WALL as WALL
from ckpt.kernel.uapi_state import WNOHANG as WNOHANG

# arch/x86/entry/syscalls/syscall_64.tbl
SYS_pause = 34
SYS_mlockall = 151
SYS_execveat = 322
SYS_mseal = 462
SYS_wait4 = 61

# include/uapi/linux/sched.h
CLONE_CLEAR_SIGHAND = 0x100000000
clone_args = struct.Struct("<11Q")
"""flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size, cgroup"""

# include/uapi/linux/memfd.h
MFD_CLOEXEC = 1
MFD_ALLOW_SEALING = 2
MFD_HUGETLB = 4
MFD_NOEXEC_SEAL = 8
MFD_EXEC = 0x10

# include/uapi/linux/fcntl.h
AT_EMPTY_PATH = 0x1000
F_SEAL_WRITE = 0x8
F_SEAL_EXEC = 0x20

# include/uapi/linux/wait.h

# include/uapi/linux/prctl.h
PR_SET_MM = 35
PR_SET_MM_MAP = 14
PR_SET_MEMORY_MERGE = 67
PR_GET_MEMORY_MERGE = 68
PR_SET_VMA = 0x53564D41
PR_SET_VMA_ANON_NAME = 0
prctl_mm_map = struct.Struct("<12QII")
"""start_code, end_code, start_data, end_data, start_brk, brk, start_stack, arg_start, arg_end, env_start,
env_end, auxv (pointer), auxv_size, exe_fd"""

# include/uapi/asm-generic/mman-common.h
MLOCK_ONFAULT = 1
MADV_DONTNEED_LOCKED = 24

# include/uapi/linux/elf.h
ELF_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
ELF_PROGRAM_HEADER = struct.Struct("<IIQQQQQQ")
ET_EXEC = 2
EM_X86_64 = 62
PT_LOAD = 1
PT_GNU_STACK = 0x6474E551
PF_X = 1
PF_W = 2
PF_R = 4
AT_SYSINFO_EHDR = 33
