"""Triggers of pressure stall information (PSI): a threshold written into a file of it, which can then be polled."""

from __future__ import annotations

import errno
import os

from ckpt.kernel.btf import kernel_types
from ckpt.kernel.kernel_memory import KernelMemory

_NO_TRIGGER = b"?"  # never a threshold; a description that has one says EBUSY before it reads what was written


def has_trigger(fd: int) -> bool:
    """Whether this description, writable and of a pressure file, has a trigger. Nothing is changed."""
    try:
        os.write(fd, _NO_TRIGGER)
    except OSError as error:
        return error.errno == errno.EBUSY
    return False


def trigger(fd: int, *, cgroup: bool) -> tuple[int, int, int]:
    """(state, threshold and window in us) of the description's trigger; state is the kernel's enum psi_states.

    Unsupported where the kernel's memory cannot be read.
    """
    types = kernel_types()
    with KernelMemory() as memory:
        found = memory.u64(memory.private(fd) + types.offset("seq_file", "private"))
        if cgroup:
            context = memory.u64(found + types.offset("kernfs_open_file", "priv"))
            found = memory.u64(context + types.offset("cgroup_file_ctx", "psi", "trigger"))
        state = memory.u32(found + types.offset("psi_trigger", "state"))
        threshold = memory.u64(found + types.offset("psi_trigger", "threshold"))
        window = memory.u64(found + types.offset("psi_trigger", "win", "size"))
    return state, threshold // 1000, window // 1000
