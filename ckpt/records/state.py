"""The small records of a task's state, each collected and restored by the module of `ckpt.state` named beside it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Registers:  # registers.py
    """user_regs_struct (27 u64, little-endian) and the NT_X86_XSTATE area, as the kernel gives them."""

    gpr: bytes
    xstate: bytes


@dataclass(frozen=True, slots=True)
class SigAction:  # signals.py
    """One disposition that is not the default; struct kernel_sigaction."""

    signal: int
    handler: int  # SIG_IGN is 1
    flags: int
    restorer: int
    mask: int


@dataclass(frozen=True, slots=True)
class SigAltStack:  # signals.py
    sp: int
    flags: int
    size: int


@dataclass(frozen=True, slots=True)
class SigInfo:  # signals.py
    """One pending signal: siginfo_t, 128 bytes."""

    info: bytes


@dataclass(frozen=True, slots=True)
class IntervalTimer:  # timers.py
    which: int  # ITIMER_REAL, ITIMER_VIRTUAL, ITIMER_PROF
    interval_us: int
    value_us: int


@dataclass(frozen=True, slots=True)
class PosixTimer:  # timers.py
    timer_id: int
    clock_id: int
    signo: int
    notify: int  # SIGEV_*
    notify_tid: int
    sigval: int
    interval_ns: int
    value_ns: int  # what is left; 0 when disarmed
    overrun: int
    gone_by: int = 0  # periods since the expiry whose signal waits
    moment_ns: int = 0  # of CLOCK_REALTIME, for a timer that was set to a point in time, and not for a while


@dataclass(frozen=True, slots=True)
class ResourceLimit:  # limits.py
    resource: int  # RLIMIT_*
    soft: int  # RLIM_INFINITY is 2**64 - 1
    hard: int


@dataclass(frozen=True, slots=True)
class RseqState:  # threads.py
    address: int
    size: int
    signature: int


@dataclass(frozen=True, slots=True)
class Credentials:  # ids.py
    uids: tuple[int, ...]  # real, effective, saved, filesystem
    gids: tuple[int, ...]
    groups: tuple[int, ...]
    cap_inh: int
    cap_prm: int
    cap_eff: int
    cap_bnd: int
    cap_amb: int
    securebits: int
    no_new_privs: bool


@dataclass(frozen=True, slots=True)
class NumaPolicy:  # sched.py
    mode: int  # MPOL_* with its mode flags
    nodes: bytes  # little-endian node mask


@dataclass(frozen=True, slots=True)
class Scheduling:  # sched.py
    policy: int
    flags: int
    nice: int
    priority: int
    runtime: int
    deadline: int
    period: int
    affinity: bytes  # little-endian CPU mask
    ioprio: int
    timerslack_ns: int
    numa: NumaPolicy | None = None  # None: MPOL_DEFAULT
    clamps: tuple[int, int] | None = None  # sched_util_min, _max; None: the kernel had none


@dataclass(frozen=True, slots=True)
class SeccompState:  # seccomp.py
    mode: int  # 1 strict, 2 filter
    filters: tuple[bytes, ...]  # struct sock_filter arrays, oldest first
    flags: tuple[int, ...]  # SECCOMP_FILTER_FLAG_* of each


@dataclass(frozen=True, slots=True)
class PrctlState:  # prctl.py: what each thread has of its own
    keepcaps: bool
    tsc_mode: int  # PR_GET_TSC
    mce_kill: int  # PR_MCE_KILL_GET
    io_flusher: bool
    speculation: tuple[int, ...] = ()  # PR_GET_SPECULATION_CTRL for features 0, 1, 2; empty when unknown
    cpuid_faults: bool = False  # ARCH_SET_CPUID: the instruction gives SIGSEGV


@dataclass(frozen=True, slots=True)
class FsState:  # fs.py
    cwd: str
    root: str
    umask: int
    cwd_file: int = 0  # the file_id of a cwd that was deleted


@dataclass(frozen=True, slots=True)
class Attributes:  # attributes.py: what the process has as a whole
    personality: int
    oom_score_adj: int
    child_subreaper: bool
    mdwe: int  # PR_GET_MDWE
    cgroups: tuple[str, ...]  # lines of /proc/PID/cgroup
    autogroup_nice: int
    coredump_filter: int
    loginuid: int
