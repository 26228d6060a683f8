"""Kernel names of task state: signals, timers, credentials, scheduling, limits, prctl, seccomp; x86_64."""

from __future__ import annotations

import struct

from ckpt.kernel.uapi_ipc import SIGEV_NONE as SIGEV_NONE

# include/uapi/linux/ptrace.h
ptrace_rseq_configuration = struct.Struct("<QIII4x")  # address, size, signature, flags
SECCOMP_METADATA = struct.Struct("<QQ")  # filter_off, flags

# include/uapi/asm-generic/{siginfo,signal,signal-defs}.h, arch/x86/include/uapi/asm/signal.h
SIGINFO_SIZE = 128
NSIG = 64
SIGKILL = 9
SIGCHLD = 17
SIGSTOP = 19
SIG_DFL = 0
SIG_IGN = 1
SA_RESTART = 0x10000000
kernel_sigaction = struct.Struct("<QQQQ")  # handler, flags, restorer, mask
stack_t = struct.Struct("<Qi4xQ")  # sp, flags, size
SS_ONSTACK = 1
SS_DISABLE = 2
SIGSET_SIZE = 8

# include/uapi/linux/wait.h, include/uapi/asm-generic/siginfo.h
P_ALL = 0
P_PID = 1
WNOHANG = 1
WSTOPPED = 2
WCONTINUED = 8
WNOWAIT = 0x01000000
WALL = 0x40000000  # __WALL
CLD_STOPPED = 5
CLD_CONTINUED = 6
siginfo_child = struct.Struct("<3i4xi")  # signo, errno, code, pid

# include/uapi/linux/rseq.h
rseq_cs = struct.Struct("<IIQQQ")  # version, flags, start_ip, post_commit_offset, abort_ip
RSEQ_CS_OFFSET = 8  # of rseq_cs in struct rseq
RSEQ_FLAG_UNREGISTER = 1

# include/uapi/linux/time.h, include/uapi/asm-generic/siginfo.h
ITIMERS = (0, 1, 2)  # ITIMER_REAL, ITIMER_VIRTUAL, ITIMER_PROF
itimerval = struct.Struct("<qqqq")  # interval sec, usec; value sec, usec
timespec = struct.Struct("<qq")  # sec, nsec
FUTEX_WAIT_BITSET, FUTEX_CMD_MASK = 9, 0x7F  # include/uapi/linux/futex.h
CLOCK_REALTIME_ALARM = 8
CLOCK_BOOTTIME_ALARM = 9
TIMER_ABSTIME = 1
SI_TIMER = -2
siginfo_timer = struct.Struct("<3i4xi")  # signo, errno, code, timerid
itimerspec = struct.Struct("<qqqq")  # interval sec, nsec; value sec, nsec
sigevent = struct.Struct("<Qiii44x")  # sigval, signo, notify, tid
SIGEV_SIGNAL = 0
SIGEV_THREAD = 2
SIGEV_THREAD_ID = 4
_CPUCLOCK_PERTHREAD, _CPUCLOCK_CLOCK = 4, 3  # include/linux/posix-timers_types.h


def clock_thread(clock_id: int) -> int | None:
    """The thread whose CPU time a clock counts, 0 for the one that asks; None for other clocks."""
    return ~(clock_id >> 3) if clock_id < 0 and clock_id & _CPUCLOCK_PERTHREAD else None


def thread_clock(tid: int, like: int) -> int:
    """The clock that counts for thread `tid` what `like` counts for another one."""
    return (~tid << 3) | _CPUCLOCK_PERTHREAD | like & _CPUCLOCK_CLOCK


def cpu_clock_of(pid: int, tid: int, clock_id: int) -> int:
    """A CPU clock as thread `tid` of process `pid` names it, as others do."""
    if clock_id == 2:  # CLOCK_PROCESS_CPUTIME_ID, whose kind is CPUCLOCK_SCHED
        return (~pid << 3) | 2
    if ~(clock_id >> 3):
        return clock_id
    return thread_clock(tid, clock_id) if clock_id & _CPUCLOCK_PERTHREAD else (~pid << 3) | clock_id & _CPUCLOCK_CLOCK


# include/uapi/linux/prctl.h
PR_SET_PDEATHSIG = 1
PR_GET_PDEATHSIG = 2
PR_GET_DUMPABLE = 3
PR_SET_DUMPABLE = 4
PR_SET_KEEPCAPS = 8
PR_SET_NAME = 15
PR_SET_SECCOMP = 22
PR_CAPBSET_DROP = 24
PR_GET_TSC = 25
PR_SET_TSC = 26
PR_GET_SECUREBITS = 27
PR_SET_SECUREBITS = 28
PR_SET_TIMERSLACK = 29
PR_GET_TIMERSLACK = 30
PR_MCE_KILL = 33
PR_MCE_KILL_SET = 1
PR_MCE_KILL_DEFAULT = 2
PR_MCE_KILL_GET = 34
PR_SET_CHILD_SUBREAPER = 36
PR_GET_CHILD_SUBREAPER = 37
PR_SET_NO_NEW_PRIVS = 38
PR_GET_TID_ADDRESS = 40
PR_SET_THP_DISABLE = 41
PR_GET_THP_DISABLE = 42
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
PR_CAP_AMBIENT_CLEAR_ALL = 4
PR_SET_SPECULATION_CTRL = 53
PR_SET_IO_FLUSHER = 57
PR_GET_IO_FLUSHER = 58
PR_SET_MDWE = 65
PR_GET_MDWE = 66
PR_TIMER_CREATE_RESTORE_IDS = 77
PR_TIMER_CREATE_RESTORE_IDS_OFF = 0
PR_TIMER_CREATE_RESTORE_IDS_ON = 1
PR_FUTEX_HASH = 78
PR_FUTEX_HASH_SET_SLOTS = 1
PR_FUTEX_HASH_GET_SLOTS = 2
PR_TSC_ENABLE = 1

# arch/x86/include/uapi/asm/prctl.h
ARCH_GET_CPUID = 0x1011
ARCH_SET_CPUID = 0x1012
PR_SPEC_PRCTL = 1
PR_SPEC_ENABLE = 2
PR_SPEC_DISABLE = 4
PR_SPEC_FORCE_DISABLE = 8

# include/linux/sched.h: bits of the flags in /proc/PID/stat; only hints of what to ask the task itself
PF_MCE_PROCESS = 0x00000080
PF_MEMALLOC_NOIO = 0x00080000

# include/uapi/linux/capability.h, securebits.h
LINUX_CAPABILITY_VERSION_3 = 0x20080522
cap_header = struct.Struct("<Ii")  # version, pid
cap_data = struct.Struct("<6I")  # effective, permitted, inheritable: low words, then high words
CAP_SYS_CHROOT = 18
CAP_SYS_ADMIN = 21
SECBIT_NO_SETUID_FIXUP = 1 << 2
SECBIT_KEEP_CAPS = 1 << 4

# include/uapi/linux/sched.h, sched/types.h, ioprio.h
SCHED_NORMAL = 0
SCHED_FIFO = 1
SCHED_RR = 2
SCHED_BATCH = 3
SCHED_IDLE = 5
SCHED_DEADLINE = 6
SCHED_FLAG_RESET_ON_FORK = 1
sched_attr = struct.Struct("<IIQiIQQQ")  # size, policy, flags, nice, priority, runtime, deadline, period
sched_clamps = struct.Struct("<II")  # sched_util_min, sched_util_max: behind it since 5.3
SCHED_FLAG_KEEP_ALL = 0x18
SCHED_FLAG_UTIL_CLAMP = 0x60
IOPRIO_WHO_PROCESS = 1

# include/uapi/asm-generic/resource.h, in the order of /proc/PID/limits (which is that of the numbers)
RLIM_INFINITY = (1 << 64) - 1
RLIM_NAMES = (
    "RLIMIT_CPU",
    "RLIMIT_FSIZE",
    "RLIMIT_DATA",
    "RLIMIT_STACK",
    "RLIMIT_CORE",
    "RLIMIT_RSS",
    "RLIMIT_NPROC",
    "RLIMIT_NOFILE",
    "RLIMIT_MEMLOCK",
    "RLIMIT_AS",
    "RLIMIT_LOCKS",
    "RLIMIT_SIGPENDING",
    "RLIMIT_MSGQUEUE",
    "RLIMIT_NICE",
    "RLIMIT_RTPRIO",
    "RLIMIT_RTTIME",
)
rlimit64 = struct.Struct("<QQ")

# include/uapi/linux/seccomp.h, filter.h
SECCOMP_MODE_STRICT = 1
SECCOMP_MODE_FILTER = 2
SECCOMP_SET_MODE_FILTER = 1
SECCOMP_FILTER_FLAG_LOG = 2
SECCOMP_FILTER_FLAG_SPEC_ALLOW = 4
AUDIT_ARCH_X86_64 = 0xC000003E
SECCOMP_RET_KILL_THREAD = 0
SECCOMP_RET_ERRNO = 0x00050000
SECCOMP_RET_USER_NOTIF = 0x7FC00000
SECCOMP_RET_TRACE = 0x7FF00000
SECCOMP_RET_LOG = 0x7FFC0000
SECCOMP_RET_ALLOW = 0x7FFF0000
SECCOMP_RET_ACTION_FULL = 0xFFFF0000
BPF_RET_K = 0x06
sock_filter = struct.Struct("<HBBI")  # code, jt, jf, k
sock_fprog = struct.Struct("<H6xQ")  # len, filter

# include/uapi/linux/ptrace.h and kernel/signal.c: what the kernel keeps in rax of an interrupted call
ERESTARTSYS = 512
ERESTARTNOINTR = 513
ERESTARTNOHAND = 514
ERESTART_RESTARTBLOCK = 516

# include/uapi/linux/futex.h
robust_list_head = struct.Struct("<QqQ")  # list, futex_offset, list_op_pending

# arch/x86/include/uapi/asm/ldt.h; arch/x86/kernel/ldt.c for what modify_ldt is told to do
SYS_modify_ldt = 154
MODIFY_LDT_READ, MODIFY_LDT_WRITE = 0, 0x11
SYS_ioperm = 173
LDT_ENTRIES, LDT_ENTRY_SIZE = 8192, 8
user_desc = struct.Struct("<4I")  # entry_number, base_addr, limit, bit fields
GDT_TLS = range(12, 15)  # GDT_ENTRY_TLS_MIN to GDT_ENTRY_TLS_MAX, arch/x86/include/asm/segment.h
USER_DESC_EMPTY = 0b101000  # read_exec_only and seg_not_present: what LDT_empty looks at, with base and limit 0
