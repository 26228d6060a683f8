"""Kernel names, verbatim; x86_64. Each group cites its header. Larger families have a uapi_*.py of their own."""

from __future__ import annotations

# arch/x86/entry/syscalls/syscall_64.tbl
SYS_close = 3
SYS_poll = 7
SYS_mmap = 9
SYS_mprotect = 10
SYS_munmap = 11
SYS_brk = 12
SYS_rt_sigaction = 13
SYS_rt_sigprocmask = 14
SYS_rt_sigreturn = 15
SYS_ioctl = 16
SYS_pread64 = 17
SYS_mremap = 25
SYS_mincore = 27
SYS_madvise = 28
SYS_shmget = 29
SYS_shmat = 30
SYS_shmctl = 31
SYS_dup = 32
SYS_dup2 = 33
SYS_nanosleep = 35
SYS_getitimer = 36
SYS_setitimer = 38
SYS_getpid = 39
SYS_recvmsg = 47
SYS_clone = 56
SYS_exit = 60
SYS_fcntl = 72
SYS_chdir = 80
SYS_fchdir = 81
SYS_umask = 95
SYS_setpgid = 109
SYS_setsid = 112
SYS_setgroups = 116
SYS_setresuid = 117
SYS_setresgid = 119
SYS_setfsuid = 122
SYS_setfsgid = 123
SYS_capset = 126
SYS_rt_sigqueueinfo = 129
SYS_sigaltstack = 131
SYS_personality = 135
SYS_getpriority = 140
SYS_setpriority = 141
SYS_mlock = 149
SYS_prctl = 157
SYS_arch_prctl = 158
SYS_setrlimit = 160
SYS_chroot = 161
SYS_gettid = 186
SYS_futex = 202
SYS_sched_setaffinity = 203
SYS_remap_file_pages = 216
SYS_set_tid_address = 218
SYS_restart_syscall = 219
SYS_timer_create = 222
SYS_timer_settime = 223
SYS_timer_gettime = 224
SYS_timer_getoverrun = 225
SYS_timer_delete = 226
SYS_clock_nanosleep = 230
SYS_exit_group = 231
SYS_epoll_ctl = 233
SYS_tgkill = 234
SYS_ioprio_set = 251
SYS_ioprio_get = 252
SYS_openat = 257
SYS_set_robust_list = 273
SYS_get_robust_list = 274
SYS_dup3 = 292
SYS_rt_tgsigqueueinfo = 297
SYS_prlimit64 = 302
SYS_process_vm_readv = 310
SYS_process_vm_writev = 311
SYS_kcmp = 312
SYS_sched_setattr = 314
SYS_sched_getattr = 315
SYS_seccomp = 317
SYS_memfd_create = 319
SYS_userfaultfd = 323
SYS_membarrier = 324
SYS_mlock2 = 325
SYS_rseq = 334
SYS_pidfd_open = 434
SYS_clone3 = 435
SYS_close_range = 436
SYS_pidfd_getfd = 438

# include/uapi/linux/ptrace.h
PTRACE_PEEKUSER = 3
PTRACE_CONT = 7
PTRACE_KILL = 8
PTRACE_DETACH = 17
PTRACE_SYSCALL = 24
PTRACE_SETOPTIONS = 0x4200
PTRACE_GETEVENTMSG = 0x4201
PTRACE_GETSIGINFO = 0x4202
PTRACE_GETREGSET = 0x4204
PTRACE_SETREGSET = 0x4205
PTRACE_SEIZE = 0x4206
PTRACE_INTERRUPT = 0x4207
PTRACE_LISTEN = 0x4208
PTRACE_PEEKSIGINFO = 0x4209
PTRACE_GETSIGMASK = 0x420A
PTRACE_SETSIGMASK = 0x420B
PTRACE_SECCOMP_GET_FILTER = 0x420C
PTRACE_SECCOMP_GET_METADATA = 0x420D
PTRACE_GET_RSEQ_CONFIGURATION = 0x420F
PTRACE_PEEKSIGINFO_SHARED = 1
PTRACE_O_TRACESYSGOOD = 1
PTRACE_O_TRACEFORK = 2
PTRACE_O_TRACEVFORK = 4
PTRACE_O_TRACECLONE = 8
PTRACE_O_TRACEEXEC = 16
PTRACE_O_TRACEEXIT = 64
PTRACE_O_EXITKILL = 1 << 20
PTRACE_O_SUSPEND_SECCOMP = 1 << 21
PTRACE_EVENT_FORK = 1
PTRACE_EVENT_VFORK = 2
PTRACE_EVENT_CLONE = 3
PTRACE_EVENT_EXEC = 4
PTRACE_EVENT_EXIT = 6
PTRACE_EVENT_STOP = 128

# include/uapi/linux/elf.h
NT_PRSTATUS = 1
NT_X86_XSTATE = 0x202

# include/uapi/asm-generic/mman-common.h, mman.h
PROT_NONE = 0
PROT_READ = 1
PROT_WRITE = 2
PROT_EXEC = 4
MAP_SHARED = 0x01
MAP_PRIVATE = 0x02
MAP_SHARED_VALIDATE = 0x03
MAP_DROPPABLE = 0x08
MAP_FIXED = 0x10
MAP_ANONYMOUS = 0x20
MAP_GROWSDOWN = 0x100
MAP_LOCKED = 0x2000
MAP_NORESERVE = 0x4000
MAP_STACK = 0x20000
MAP_HUGETLB = 0x40000
MAP_SYNC = 0x80000
MAP_FIXED_NOREPLACE = 0x100000
MAP_HUGE_SHIFT = 26
MCL_FUTURE = 2
MCL_ONFAULT = 4
MREMAP_MAYMOVE = 1
MREMAP_FIXED = 2
MADV_RANDOM = 1
MADV_SEQUENTIAL = 2
MADV_DONTNEED = 4
MADV_DONTFORK = 10
MADV_MERGEABLE = 12
MADV_UNMERGEABLE = 13
MADV_HUGEPAGE = 14
MADV_NOHUGEPAGE = 15
MADV_DONTDUMP = 16
MADV_WIPEONFORK = 18
MADV_GUARD_INSTALL = 102

# include/uapi/linux/sched.h
CLONE_VM = 0x100
CLONE_FS = 0x200
CLONE_FILES = 0x400
CLONE_SIGHAND = 0x800
CLONE_PIDFD = 0x1000
CLONE_PTRACE = 0x2000
CLONE_VFORK = 0x4000
CLONE_PARENT = 0x8000
CLONE_THREAD = 0x10000
CLONE_SYSVSEM = 0x40000

# include/uapi/linux/wait.h, close_range.h
WNOTHREAD = 0x20000000  # __WNOTHREAD
WCLONE = 0x80000000  # __WCLONE
CLOSE_RANGE_UNSHARE = 2

# include/uapi/linux/kcmp.h
KCMP_FILE = 0
KCMP_VM = 1
KCMP_FILES = 2
KCMP_FS = 3
KCMP_SIGHAND = 4
KCMP_EPOLL_TFD = 7

# arch/x86/include/asm/page_types.h
PAGE_SIZE = 4096
TASK_SIZE_MAX = (1 << 47) - PAGE_SIZE
