"""Kernel names that only the feature probes use, verbatim."""

from __future__ import annotations

import ctypes

# include/uapi/linux/capability.h
CAP_SYS_PTRACE = 19
CAP_SYS_ADMIN = 21
CAP_SYS_RESOURCE = 24
CAP_CHECKPOINT_RESTORE = 40

# include/uapi/linux/prctl.h
PR_SET_MM = 35
PR_SET_MM_MAP_SIZE = 15
PR_TIMER_CREATE_RESTORE_IDS = 77
PR_TIMER_CREATE_RESTORE_IDS_GET = 2

# include/uapi/linux/tcp.h
TCP_REPAIR = 19


class clone_args(ctypes.Structure):
    """include/uapi/linux/sched.h, CLONE_ARGS_SIZE_VER1"""

    _fields_ = [
        (name, ctypes.c_uint64)
        for name in (
            "flags",
            "pidfd",
            "child_tid",
            "parent_tid",
            "exit_signal",
            "stack",
            "stack_size",
            "tls",
            "set_tid",
            "set_tid_size",
        )
    ]
