"""Kernel names of Linux AIO, verbatim; x86_64."""

from __future__ import annotations

import struct

# arch/x86/entry/syscalls/syscall_64.tbl
SYS_io_setup = 206
SYS_io_submit = 209

# include/uapi/linux/aio_abi.h
IOCB_CMD_PREAD = 0
IO_EVENT_SIZE = 32  # struct io_event

# fs/aio.c
AIO_RING_MAGIC = 0xA10A10A1
AIO_RING = struct.Struct("<8I")  # struct aio_ring: id, nr, head, tail, magic, (in)compat_features, header_length
AIO_RING_HEAD = 8  # offset of head
