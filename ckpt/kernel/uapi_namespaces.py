"""Kernel names about namespaces and mounts, verbatim."""

from __future__ import annotations

from ckpt.kernel.uapi_state import PR_SET_PDEATHSIG as PR_SET_PDEATHSIG

# include/uapi/linux/sched.h
CLONE_NEWTIME = 0x00000080
CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000

# include/uapi/linux/mount.h
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_BIND = 4096
MS_REC = 16384
MS_PRIVATE = 1 << 18

# include/uapi/linux/prctl.h

# arch/x86/entry/syscalls/syscall_64.tbl
SYS_mount = 165
SYS_unshare = 272
SYS_setns = 308
