"""Mappings of a file that overlayfs has copied up since: they show the old one, paths lead to the new one.

(Documentation/filesystems/overlayfs.rst, "Non-standard behavior".)
"""

from __future__ import annotations

import ctypes
import os
import time

import numpy as np

from ckpt.errors import KernelError
from ckpt.kernel import procfs, uapi_files
from ckpt.kernel import uapi_pagemap as up
from ckpt.kernel.libc import syscall
from ckpt.kernel.memory import Memory
from ckpt.kernel.pagemap import Pagemap
from ckpt.kernel.procfs import MapsLine
from ckpt.kernel.standins import entry
from ckpt.records.runs import PAGE_SIZE

_PIECE = 256  # pages
_TICKS = os.sysconf("SC_CLK_TCK")
_SLACK_NS = 5_000_000_000  # between the clocks


def is_stale(pid: int, line: MapsLine, path: str, found: os.stat_result, started: int) -> bool:
    """Whether a mapping of a frozen task shows other bytes than the file at `path`, which `found` is about, has.

    A file that was copied up has changed (st_ctime) since the task `started` (ns); without that nothing is read.
    """
    if found.st_ctime_ns < started or not _on_overlay(path):
        return False
    with open(path, "rb", buffering=0) as file, Memory(pid) as memory, Pagemap(pid) as pagemap:
        for start in range(line.start, line.end, _PIECE * PAGE_SIZE):
            nr_pages = min(_PIECE, (line.end - start) // PAGE_SIZE)
            data = os.pread(file.fileno(), nr_pages * PAGE_SIZE, line.offset + start - line.start)
            entries = pagemap.entries(start, nr_pages)
            there = entries & np.uint64(up.PM_PRESENT | up.PM_SWAP) != 0
            own = there & (entries & np.uint64(up.PM_FILE) == 0)  # the task's own copies, guard pages
            for page in np.flatnonzero(~own).tolist():
                piece = data[page * PAGE_SIZE : (page + 1) * PAGE_SIZE]
                try:
                    if piece and memory.read(start + page * PAGE_SIZE, len(piece)) != piece:
                        return True
                except KernelError:
                    continue  # nothing can be read there: behind the end of the old file
    return False


def started_ns(pid: int) -> int:
    """When the task began, by the wall clock, or some seconds earlier."""
    up_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    return time.time_ns() - up_ns + procfs.stat(entry(pid)).start_time * 1_000_000_000 // _TICKS - _SLACK_NS


def _on_overlay(path: str) -> bool:
    answer = ctypes.create_string_buffer(uapi_files.STATFS_SIZE)
    try:
        syscall("statfs", uapi_files.SYS_statfs, ctypes.create_string_buffer(os.fsencode(path)), answer)
    except KernelError:
        return False
    return int.from_bytes(answer.raw[:8], "little") == uapi_files.OVERLAYFS_SUPER_MAGIC
