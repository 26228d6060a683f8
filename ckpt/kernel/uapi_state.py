"""Kernel names of task state: signals, timers, credentials, scheduling, limits, prctl, seccomp; x86_64."""

from __future__ import annotations

import struct

# include/uapi/linux/ptrace.h
ptrace_rseq_configuration = struct.Struct("<QIII4x")  # address, size, signature, flags, pad
SECCOMP_METADATA = struct.Struct("<QQ")  # filter_off, flags
SIGINFO_SIZE = 128  # include/uapi/asm-generic/siginfo.h: SI_MAX_SIZE
