"""What this kernel and this user can do: one table of features, each with the evidence of a real probe.

Versions are never compared. Every probe acts on ckpt's own process, or on one of a few bytes that it starts.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np

from ckpt.errors import CkptError, KernelError
from ckpt.kernel import datagrams, mapped, pagemap, procfs, tiny, uapi, userfault
from ckpt.kernel import uapi_namespaces as un
from ckpt.kernel import uapi_pagemap as up
from ckpt.kernel import uapi_probe as names
from ckpt.kernel.descriptors import kcmp, steal_descriptor
from ckpt.kernel.libc import syscall
from ckpt.kernel.memory import Memory
from ckpt.records.runs import PAGE_SIZE, U64


@dataclass(frozen=True, slots=True)
class Feature:
    """One row of the table; `evidence` is what the probe saw."""

    name: str
    available: bool
    evidence: str
    needed_for: str
    remedy: str


@dataclass(frozen=True, slots=True)
class _Probe:
    run: Callable[[], str]  # gives the evidence; a CkptError or _Missing when the feature is not there
    needed_for: str
    remedy: str


class _Missing(Exception):
    """The feature is not there; the message is the evidence."""


_PROBES: dict[str, _Probe] = {}


def _probe(name: str, needed_for: str, remedy: str) -> Callable[[Callable[[], str]], Callable[[], str]]:
    def add(function: Callable[[], str]) -> Callable[[], str]:
        _PROBES[name] = _Probe(function, needed_for, remedy)
        return function

    return add


@cache
def probe(name: str) -> Feature:
    """The feature with this name, probed once in this process."""
    row = _PROBES[name]
    try:
        return Feature(name, True, row.run(), row.needed_for, row.remedy)
    except (CkptError, _Missing) as missing:
        return Feature(name, False, str(missing), row.needed_for, row.remedy)


def table() -> list[Feature]:
    """Every feature, in the order of the table."""
    return [probe(name) for name in _PROBES]


class _Pages:
    """A few private anonymous pages of ckpt's own."""

    def __init__(self, nr_pages: int) -> None:
        self.area = mmap.mmap(-1, nr_pages * PAGE_SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        handle = ctypes.c_char.from_buffer(self.area)
        self.address = ctypes.addressof(handle)
        del handle
        self.spans: U64 = np.array([[self.address, self.address + nr_pages * PAGE_SIZE]], np.uint64)

    def touch(self, page: int) -> None:
        self.area[page * PAGE_SIZE] = 1

    def __enter__(self) -> _Pages:
        return self

    def __exit__(self, *_: object) -> None:
        self.area.close()


# ---------------------------------------------------------------- dirty tracking


@_probe("soft-dirty", "the soft-dirty tracker", "use the tracker write-protect, or a kernel with MEM_SOFT_DIRTY")
def _soft_dirty() -> str:
    bit = np.uint64(up.PM_SOFT_DIRTY)
    pid = os.getpid()
    with _Pages(2) as own, pagemap.Pagemap(pid) as pages:
        own.touch(0)
        own.touch(1)
        if not (pages.entries(own.address, 2) & bit).all():
            raise _Missing("a page just written has bit 55 clear: MEM_SOFT_DIRTY is compiled out")
        # Succeeds even where it does nothing, which is why the bits are looked at.
        pagemap.clear_soft_dirty(pid)
        cleared = pages.entries(own.address, 2) & bit
        own.touch(0)
        after = (pages.entries(own.address, 2) & bit != 0).tolist()
        if cleared.any() or after != [True, False]:
            raise _Missing(f"bit 55 does not follow writes: {cleared.tolist()} cleared, {after} written")
    return "clear_refs cleared bit 55 of two pages and a write set it in one"


@_probe("page-frames", "the soft-dirty tracker, to tell moved pages", "run as root (CAP_SYS_ADMIN)")
def _page_frames() -> str:
    frame = pagemap.zero_page_frame()
    if not frame:
        raise _Missing("/proc/self/pagemap shows frame numbers as 0")
    return f"pagemap shows the zero page's frame {frame:#x}"


@_probe("pagemap-scan", "the write-protect tracker, cheap populated maps", "Linux 6.7 or newer")
def _pagemap_scan() -> str:
    known = pagemap.categories()
    if not known & up.PAGE_IS_WRITTEN:
        raise _Missing("the PAGEMAP_SCAN ioctl is unknown")
    bits = {name: value for name, value in vars(up).items() if name.startswith("PAGE_IS_")}
    return "knows " + " ".join(name[8:] for name, value in bits.items() if known & value)


def _category(bit: int, name: str) -> str:
    if not pagemap.categories() & bit:
        raise _Missing(f"PAGEMAP_SCAN does not know {name}")
    return f"PAGEMAP_SCAN accepts {name}"


@_probe("pagemap-scan-soft-dirty", "nothing; shown because kernels differ", "Linux 6.8 or newer")
def _scan_soft_dirty() -> str:
    return _category(up.PAGE_IS_SOFT_DIRTY, "PAGE_IS_SOFT_DIRTY")


@_probe("pagemap-scan-guard", "guard pages in images", "Linux 6.15 or newer, where guard pages matter")
def _scan_guard() -> str:
    return _category(up.PAGE_IS_GUARD, "PAGE_IS_GUARD")


def _enabled_uffd() -> int:
    fd = userfault.open_own()
    try:
        userfault.enable(fd)
    except KernelError:
        os.close(fd)
        raise
    return fd


@_probe("userfaultfd", "the write-protect tracker, lazy restore", "allow userfaultfd(2) in the seccomp profile")
def _userfaultfd() -> str:
    os.close(userfault.open_own())
    return "userfaultfd(UFFD_USER_MODE_ONLY) works"


@_probe("uffd-wp-async", "the write-protect tracker", "Linux 6.7 or newer with HAVE_ARCH_USERFAULTFD_WP")
def _wp_async() -> str:
    with _Pages(3) as own, pagemap.Pagemap(os.getpid()) as pages:
        own.touch(0)
        own.touch(1)
        fd = _enabled_uffd()
        try:
            userfault.register(fd, *own.spans[0].tolist())

            def written(flags: int) -> list[list[int]]:
                found = pages.scan(
                    own.spans,
                    mask=up.PAGE_IS_WRITTEN,
                    anyof=up.PAGE_IS_PRESENT | up.PAGE_IS_SWAPPED,
                    returned=up.PAGE_IS_WRITTEN,
                    flags=flags,
                )
                at = own.address
                return [[(s - at) // PAGE_SIZE, (e - at) // PAGE_SIZE] for s, e, _ in found.tolist()]

            first = written(up.PM_SCAN_WP_MATCHING)
            armed = written(0)
            own.touch(1)
            own.touch(2)
            second = written(0)
        finally:
            os.close(fd)
    if (first, armed, second) != ([[0, 2]], [], [[1, 3]]):
        raise _Missing(f"written pages are not followed: {first}, then {armed}, then {second}")
    return "PAGEMAP_SCAN armed two pages and saw one write and one new page"


# ---------------------------------------------------------------- dump


@_probe(
    "pidfd_getfd",
    "the write-protect tracker, files and sockets",
    "Linux 5.6 or newer; a seccomp profile may forbid it",
)
def _pidfd_getfd() -> str:
    reader, writer = os.pipe()
    try:
        os.close(steal_descriptor(os.getpid(), reader))
    finally:
        os.close(reader)
        os.close(writer)
    return "a descriptor was taken from ckpt's own process"


@_probe("kcmp", "descriptors shared between tasks", "a kernel with CONFIG_KCMP; a seccomp profile may forbid it")
def _kcmp() -> str:
    pid = os.getpid()
    if kcmp(pid, pid, uapi.KCMP_VM) != 0:
        raise _Missing("kcmp says that a task's address space is not its own")
    return "kcmp works"


def _capability(number: int, *instead: int) -> str:
    effective = int(procfs.status(os.getpid())["CapEff"], 16)
    for bit in (number, *instead):
        if effective >> bit & 1:
            return f"effective (bit {bit})"
    raise _Missing(f"not effective (bit {number} of CapEff {effective:#x})")


@_probe("ptrace", "freezing tasks that are no children of ckpt", "root, or kernel.yama.ptrace_scope=0")
def _ptrace_scope() -> str:
    try:
        scope = int(procfs.read_bytes("/proc/sys/kernel/yama/ptrace_scope", os.getpid()))
    except CkptError:
        return "no Yama: tasks of the same user may be traced"
    if scope == 0:
        return "ptrace_scope is 0"
    if scope == 3:
        raise _Missing("ptrace_scope is 3: nobody may trace")
    return f"ptrace_scope is {scope}, CAP_SYS_PTRACE " + _capability(names.CAP_SYS_PTRACE)


@_probe("proc-mem", "reading protected pages, remote syscalls", "a kernel that lets tracers through /proc/PID/mem")
def _proc_mem() -> str:
    with _Pages(1) as own, Memory(os.getpid(), write=True) as memory:
        own.touch(0)
        syscall("mprotect", uapi.SYS_mprotect, own.address, PAGE_SIZE, 0)
        try:
            memory.write(own.address, b"\2")
            seen = memory.read(own.address, 1)
        finally:
            syscall("mprotect", uapi.SYS_mprotect, own.address, PAGE_SIZE, uapi.PROT_READ | uapi.PROT_WRITE)
    if seen != b"\2":
        raise _Missing("what was written to a PROT_NONE page through /proc/self/mem is not there")
    return "a PROT_NONE page was written and read through /proc/self/mem"


@_probe("map-files", "dumping shared memory without a copy", "run as root (CAP_CHECKPOINT_RESTORE)")
def _map_files() -> str:
    if not mapped.map_files_allowed():
        raise _Missing("/proc/self/map_files may not be followed")
    return "a link in /proc/self/map_files was followed"


@_probe(
    "kernel-memory",
    "what no call shows: the rest of a wait, SEM_UNDO, connections not accepted, errors and messages in queues",
    "run as root (CAP_BPF and CAP_PERFMON); a kernel with BTF",
)
def _kernel_memory() -> str:
    from ckpt.kernel.kernel_memory import KernelMemory

    with KernelMemory():
        return "a BPF program that reads it was loaded"


@_probe("suspend-seccomp", "tasks under seccomp", "run as root (CAP_SYS_ADMIN)")
def _suspend_seccomp() -> str:
    return _capability(names.CAP_SYS_ADMIN)


@_probe("madv-guard", "guard pages in restored tasks", "Linux 6.13 or newer, where a task uses guard pages")
def _guard() -> str:
    with _Pages(1) as own:
        syscall("madvise(MADV_GUARD_INSTALL)", uapi.SYS_madvise, own.address, PAGE_SIZE, uapi.MADV_GUARD_INSTALL)
    return "a guard page was installed"


# ---------------------------------------------------------------- restore


@_probe(
    "clone3-set_tid",
    "restore under the old pids",
    "root, or restore in a new user and pid namespace (--userns)",
)
def _set_tid() -> str:
    wanted = (ctypes.c_int * 1)(os.getpid())
    arguments = names.clone_args(exit_signal=17, set_tid=ctypes.addressof(wanted), set_tid_size=1)
    try:
        # The pid is taken, so that no child comes of it: EEXIST is only reached by those who may choose.
        syscall("clone3", uapi.SYS_clone3, ctypes.byref(arguments), ctypes.sizeof(arguments))
    except KernelError as error:
        if error.errno != errno.EEXIST:
            raise
        return "clone3 with a taken pid gives EEXIST, not EPERM"
    raise _Missing("clone3 made a second process with the pid of ckpt")


@_probe("cap-checkpoint-restore", "set_tid and PR_SET_MM_MAP's exe", "root, or a user namespace of one's own")
def _checkpoint_restore() -> str:
    return _capability(names.CAP_CHECKPOINT_RESTORE, names.CAP_SYS_ADMIN)


@_probe("cap-sys-resource", "raising hard limits of restored tasks", "keep the limits below ckpt's own")
def _sys_resource() -> str:
    return _capability(names.CAP_SYS_RESOURCE)


@_probe(
    "pr-set-mm-map",
    "the heap's and the arguments' bounds in restored tasks",
    "a kernel with CHECKPOINT_RESTORE",
)
def _set_mm_map() -> str:
    size = ctypes.c_uint(0)
    syscall(
        "prctl(PR_SET_MM_MAP_SIZE)",
        uapi.SYS_prctl,
        names.PR_SET_MM,
        names.PR_SET_MM_MAP_SIZE,
        ctypes.byref(size),
        0,
        0,
    )
    return f"struct prctl_mm_map has {size.value} bytes"


@_probe(
    "timer-restore-ids",
    "POSIX timers with gaps in their ids",
    "Linux 6.15 or newer; ckpt counts up without it",
)
def _timer_ids() -> str:
    mode = names.PR_TIMER_CREATE_RESTORE_IDS_GET
    syscall("prctl(PR_TIMER_CREATE_RESTORE_IDS)", uapi.SYS_prctl, names.PR_TIMER_CREATE_RESTORE_IDS, mode, 0, 0, 0)
    return "PR_TIMER_CREATE_RESTORE_IDS is known"


@_probe("tcp-repair", "established TCP connections", "root (CAP_NET_ADMIN); a kernel with CHECKPOINT_RESTORE")
def _tcp_repair() -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe_socket:
        try:
            probe_socket.setsockopt(socket.IPPROTO_TCP, names.TCP_REPAIR, 1)
            probe_socket.setsockopt(socket.IPPROTO_TCP, names.TCP_REPAIR, 0)
        except OSError as error:
            raise _Missing(f"setsockopt(TCP_REPAIR): {error.strerror}") from None
    return "setsockopt(TCP_REPAIR) works"


@_probe("raw-packets", "datagrams of other hosts that wait in a socket", "root (CAP_NET_RAW)")
def _raw_packets() -> str:
    if not datagrams.allowed():
        raise _Missing("a raw socket is not permitted")
    return "a raw socket was made"


def _unshared(flags: int) -> str:
    """unshare(2) in a tiny process; its errno is the exit status."""
    code = b"\xbf" + flags.to_bytes(4, "little")  # mov edi, flags
    code += b"\xb8" + un.SYS_unshare.to_bytes(4, "little") + b"\x0f\x05"  # mov eax, SYS_unshare; syscall
    code += b"\xf7\xd8\x89\xc7"  # neg eax; mov edi, eax
    code += b"\xb8" + uapi.SYS_exit.to_bytes(4, "little") + b"\x0f\x05"  # mov eax, SYS_exit; syscall
    status = tiny.run("ckpt-probe", code)
    if status:
        raise _Missing(f"unshare({flags:#x}): {os.strerror(status) if status > 0 else f'signal {-status}'}")
    return f"unshare({flags:#x}) worked in a process of its own"


@_probe("user-namespace", "restore without root", "user.max_user_namespaces above 0; AppArmor may restrict it")
def _user_namespace() -> str:
    return _unshared(un.CLONE_NEWUSER)


@_probe("time-namespace", "the monotonic clock of a task restored on another host", "a kernel with CONFIG_TIME_NS")
def _time_namespace() -> str:
    return _unshared(un.CLONE_NEWUSER | un.CLONE_NEWTIME)
