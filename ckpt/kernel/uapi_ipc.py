"""Kernel names of SysV IPC and POSIX message queues, verbatim; x86_64. Each group cites its header."""

from __future__ import annotations

from ckpt.kernel.uapi import SYS_semop as SYS_semop

# arch/x86/entry/syscalls/syscall_64.tbl
SYS_shmdt = 67
SYS_semget = 64
SYS_semctl = 66
SYS_msgget = 68
SYS_msgsnd = 69
SYS_msgrcv = 70
SYS_msgctl = 71
SYS_mq_open = 240
SYS_mq_unlink = 241
SYS_mq_timedsend = 242
SYS_mq_notify = 244
SYS_mq_getsetattr = 245

# include/uapi/linux/ipc.h, shm.h, sem.h, msg.h
IPC_CREAT = 0o1000
IPC_EXCL = 0o2000
IPC_NOWAIT = 0o4000
IPC_RMID = 0
IPC_SET = 1
IPC_STAT = 2
SHM_LOCK = 11
SHM_DEST = 0o1000
SHM_LOCKED = 0o2000
SHM_HUGETLB = 0o4000
SHM_RDONLY = 0o10000
SHM_REMAP = 0o40000
SHM_EXEC = 0o100000
SEM_UNDO = 0x1000
GETPID = 11
GETALL = 13
SETALL = 17
MSG_COPY = 0o40000

# include/uapi/asm-generic/siginfo.h
SIGEV_NONE = 1
SIGEV_THREAD = 2
SIGEVENT_SIZE = 64

# include/uapi/linux/mqueue.h, ipc/mqueue.c
NOTIFY_COOKIE_LEN = 32
FILENT_SIZE = 80  # st_size of every queue
