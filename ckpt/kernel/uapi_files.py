"""Kernel names of open files, verbatim; x86_64. Each group cites its header."""

from __future__ import annotations

import struct

from ckpt.kernel.uapi import SYS_close as SYS_close

# arch/x86/entry/syscalls/syscall_64.tbl
SYS_access = 21
SYS_statfs = 137
SYS_inotify_add_watch = 254
SYS_inotify_rm_watch = 255
SYS_splice = 275
SYS_tee = 276
SYS_vmsplice = 278
SYS_timerfd_create = 283
SYS_timerfd_settime = 286
SYS_timerfd_gettime = 287
SYS_signalfd4 = 289
SYS_eventfd2 = 290
SYS_epoll_create1 = 291
SYS_inotify_init1 = 294
SYS_fanotify_init = 300
SYS_fanotify_mark = 301
SYS_name_to_handle_at = 303
SYS_open_by_handle_at = 304
SYS_statx = 332
SYS_open_tree = 428
SYS_mount_setattr = 442

# include/uapi/linux/magic.h, include/uapi/asm-generic/statfs.h
OVERLAYFS_SUPER_MAGIC = 0x794C7630
STATFS_SIZE = 120  # f_type comes first

# include/uapi/linux/stat.h
STATX_ATTR_APPEND = 0x20
STATX_SIZE = 256
statx_head = struct.Struct("<IIQ")  # stx_mask, stx_blksize, stx_attributes

# include/uapi/asm-generic/fcntl.h
O_TMPFILE_BIT = 0o20000000  # __O_TMPFILE
O_PATH = 0o10000000
O_LARGEFILE = 0o100000
F_SETSIG = 10
F_GETSIG = 11
F_SETOWN_EX = 15
F_GETOWN_EX = 16
F_GETOWNER_UIDS = 17
F_OFD_SETLK = 37
F_SETLK = 6
F_RDLCK = 0
F_WRLCK = 1

# include/uapi/linux/fcntl.h
F_SETLEASE = 1024
F_SETPIPE_SZ = 1031
F_GETPIPE_SZ = 1032
F_ADD_SEALS = 1033
F_GET_SEALS = 1034
F_GET_RW_HINT = 1035
F_SET_RW_HINT = 1036

# include/uapi/asm-generic/ioctls.h
FIONREAD = 0x541B

# include/uapi/linux/splice.h
SPLICE_F_NONBLOCK = 2

# include/uapi/linux/timerfd.h
TFD_TIMER_ABSTIME = 1
TFD_IOC_SET_TICKS = 0x40085400  # _IOW('T', 0, __u64)

# include/uapi/linux/pidfd.h
PIDFD_INFO_EXIT = 1 << 3
PIDFD_INFO_SIZE_VER0 = 64
PIDFD_GET_INFO = 0xC040FF0B  # _IOWR(0xFF, 11, struct pidfd_info) of that size
pidfd_info = struct.Struct("<Q52xi")  # mask, …, exit_code

# include/uapi/linux/eventfd.h
EFD_SEMAPHORE = 1

# include/uapi/linux/eventpoll.h
EPOLL_CTL_ADD = 1
EPOLL_CTL_MOD = 3
EPIOCSPARAMS = 0x40088A01  # _IOW(0x8A, 0x01, struct epoll_params)
EPIOCGPARAMS = 0x80088A02
EPOLLIN = 0x1
EPOLLOUT = 0x4
EPOLLEXCLUSIVE = 1 << 28
EPOLLWAKEUP = 1 << 29
EPOLLONESHOT = 1 << 30
EPOLLET = 1 << 31
EP_PRIVATE_BITS = EPOLLWAKEUP | EPOLLONESHOT | EPOLLET | EPOLLEXCLUSIVE  # fs/eventpoll.c

# include/uapi/linux/inotify.h
IN_ACCESS = 0x1
IN_MODIFY = 0x2
IN_DONT_FOLLOW = 0x02000000
INOTIFY_EVENT_SIZE = 16  # struct inotify_event without a name

# include/uapi/linux/fanotify.h
FAN_ALL_CLASS_BITS = 0xC
FAN_UNLIMITED_QUEUE = 0x10
FAN_OPEN = 0x20
FAN_Q_OVERFLOW = 0x4000
FAN_EVENT_ON_CHILD = 0x08000000
FAN_MARK_ADD = 0x1
FAN_MARK_REMOVE = 0x2
FAN_MARK_MOUNT = 0x10
FAN_MARK_IGNORED_MASK = 0x20
FAN_MARK_IGNORED_SURV_MODIFY = 0x40
FAN_MARK_FILESYSTEM = 0x100
FAN_MARK_EVICTABLE = 0x200
FAN_MARK_IGNORE = 0x400
AT_FDCWD = -100
AT_SYMLINK_FOLLOW = 0x400
AT_EMPTY_PATH = 0x1000

# include/uapi/linux/mount.h
OPEN_TREE_CLONE = 1
MOUNT_ATTR_RDONLY = 1

# include/linux/exportfs.h
MAX_HANDLE_SZ = 128

# include/linux/socket.h
SCM_MAX_FD = 253
MSG_CMSG_CLOEXEC = 0x40000000

# Documentation/admin-guide/devices.txt
SAFE_DEVICES = {(1, 3): "null", (1, 5): "zero", (1, 7): "full", (1, 8): "random", (1, 9): "urandom"}
WRITABLE_DEVICES = {(1, 11): "kmsg"}  # without state as long as nobody reads
DEVICE_NAMES = {
    (1, 1): "mem",
    (1, 11): "kmsg",
    (10, 200): "net/tun",
    (10, 229): "fuse",
    (10, 232): "kvm",
    (10, 196): "vfio",
}
DEVICE_MAJORS = {
    13: "an input device",
    81: "a video device",
    116: "a sound device",
    195: "an NVIDIA device",
    226: "a GPU",
}

# fs/anon_inodes.c: how readlink names an inode that has no path
ANON_INODE = "anon_inode:"
