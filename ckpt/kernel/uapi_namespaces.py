"""Kernel names about namespaces and mounts, verbatim."""

from __future__ import annotations

from ckpt.kernel.uapi_state import PR_SET_PDEATHSIG as PR_SET_PDEATHSIG

# include/uapi/linux/sched.h
CLONE_NEWTIME = 0x00000080
CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

# include/uapi/linux/mount.h
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_BIND = 4096
MS_REC = 16384
MS_PRIVATE = 1 << 18

FSCONFIG_CMD_CREATE = 6

# include/uapi/linux/prctl.h

# arch/x86/entry/syscalls/syscall_64.tbl
SYS_mount = 165
SYS_sethostname = 170
SYS_setdomainname = 171
SYS_unshare = 272
SYS_setns = 308
SYS_fsopen = 430
SYS_fsconfig = 431
SYS_fsmount = 432

# include/uapi/linux/if.h, sockios.h
IFF_UP = 1
SIOCGIFFLAGS = 0x8913
SIOCSIFFLAGS = 0x8914
IFREQ_SIZE = 40
