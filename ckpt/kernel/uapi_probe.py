"""Kernel names that only the feature probes use, verbatim."""

from __future__ import annotations

import ctypes

from ckpt.kernel.uapi_restore import PR_SET_MM as PR_SET_MM
from ckpt.kernel.uapi_socket import TCP_REPAIR as TCP_REPAIR
from ckpt.kernel.uapi_state import CAP_SYS_ADMIN as CAP_SYS_ADMIN
from ckpt.kernel.uapi_state import PR_TIMER_CREATE_RESTORE_IDS as PR_TIMER_CREATE_RESTORE_IDS

# include/uapi/linux/capability.h
CAP_SYS_PTRACE = 19
CAP_SYS_RESOURCE = 24
CAP_CHECKPOINT_RESTORE = 40

# include/uapi/linux/prctl.h
PR_SET_MM_MAP_SIZE = 15
PR_TIMER_CREATE_RESTORE_IDS_GET = 2

# include/uapi/linux/tcp.h


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
