"""Collecting address spaces: which tasks share one, what a tracker may watch, the record that restore builds from."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np

from ckpt.errors import KernelError
from ckpt.kernel import mapped, overlay, pinned, procfs, uapi
from ckpt.kernel.descriptors import kcmp
from ckpt.kernel.memory import Memory
from ckpt.kernel.pagemap import contiguous
from ckpt.kernel.procfs import MapsLine
from ckpt.kernel.standins import entry
from ckpt.kernel.writers import Writers
from ckpt.records.mm import MmRecord, Vma
from ckpt.records.runs import U64
from ckpt.records.seams import LiveTask
from ckpt.records.state import NumaPolicy
from ckpt.records.support import Support
from ckpt.state import aio, ldt, mm_keys, mm_modes, mm_policy, prctl, rings, shm, unseen
from ckpt.state.context import CollectContext, FrozenTaskLike
from ckpt.state.files import packet
from ckpt.state.files.collect import collect_mapped_file

SUPPORT = Support(
    "memory",
    "mappings",
    "private (copy-on-write pages of forked tasks stay shared) and shared, files, guard pages, PROT_NONE, madvise, "
    "mlock and mlockall, mseal, droppable, huge pages and hugetlb, KSM, NUMA policies, names, brk, auxv, exe, "
    "protection keys, the size of the futex hash (PR_FUTEX_HASH)",
    lost="that size in a task with one thread; a protection key which no mapping has and every thread is denied; the "
    "home node of a NUMA policy (set_mempolicy_home_node)",
)

_SPECIAL = ("[vdso", "[vvar", "[vsyscall", "[uprobes", aio.RING)


def backing(line: MapsLine) -> str:
    """anon, file, shm or special."""
    path = line.path
    if path.startswith(_SPECIAL):
        return "special"
    if line.shared:
        return "shm" if path.startswith(shm.SHARED_NAMES) else "file"
    if not line.ino or path.startswith("/anon_hugepage") or path == "/dev/zero":
        return "anon"
    return "file"


@dataclass(frozen=True)
class Layout:
    """The mappings of an address space by what becomes of them."""

    lines: Sequence[MapsLine]
    ranges: U64  # tracked private mappings
    joined: U64  # the same, neighbours in one row
    vma_keys: tuple[str, ...]  # of each of the ranges
    shared_ranges: U64
    rings: Sequence[str]  # paths of mapped rings of io_uring and AIO
    objects: Sequence[tuple[str, MapsLine]]  # space key and mapping of each shared memory object


@lru_cache(maxsize=64)
def layout_of(text: str) -> Layout:
    """What a text of /proc/PID/maps says. Remembered: asked for before the freeze, it costs nothing inside."""
    lines = procfs.parse_maps(text)
    kinds = [backing(line) for line in lines]
    private = [(line, kind) for line, kind in zip(lines, kinds, strict=True) if not line.shared and kind != "special"]
    keys = []
    for line, kind in private:
        tracked = "anon" if kind == "anon" and not line.ino else "file"
        keys.append(f"{tracked}:{line.perms}:{line.dev}:{line.ino}:{line.offset}:{line.prot}")
    shared = [line for line, kind in zip(lines, kinds, strict=True) if line.shared and kind != "special"]
    objects = [(shm.shm_key(line), line) for line, kind in zip(lines, kinds, strict=True) if kind == "shm"]
    rings = [line.path for line in lines if pinned.is_ring(line.path)]
    ranges = _ranges([line for line, _ in private])
    return Layout(lines, ranges, contiguous(ranges), tuple(keys), _ranges(shared), rings, objects)


@dataclass
class Mm:
    """One address space of a frozen tree, as a tracker sees it (MmAccess)."""

    task: FrozenTaskLike
    pids: list[int]  # every task that uses it
    mm_key: str
    layout: Layout
    held: str | None = None  # what `pinned.holder` said before the freeze
    writers: Writers | None = None
    driver: FrozenTaskLike | None = None  # which makes its remote syscalls, when `task` waits in vfork

    @property
    def pid(self) -> int:
        return self.task.pid

    @property
    def space(self) -> str:
        return f"mm:{self.task.pid}"

    @property
    def lines(self) -> Sequence[MapsLine]:
        return self.layout.lines

    @property
    def ranges(self) -> U64:
        return self.layout.ranges

    @property
    def joined(self) -> U64:
        return self.layout.joined

    @property
    def vma_keys(self) -> Sequence[str]:
        return self.layout.vma_keys

    @property
    def shared_ranges(self) -> U64:
        """The shared mappings, shape (n, 2) in bytes: their contents belong to others, their guard pages do not."""
        return self.layout.shared_ranges

    def pinned(self) -> str | None:
        """Asked when tracking is armed (see MmAccess)."""
        found = list(self.layout.rings)
        if self.task.workers and rings.is_there(self.task, self.writers):
            found.append(pinned.IO_URING)
        return pinned.why(self.pid, found) or (self.writers.why(self.pids) if self.writers else None)

    def pinned_besides(self) -> str | None:
        """See MmAccess."""
        return self.held or pinned.holder(self.pid)

    def remote(self) -> LiveTask:
        return (self.driver or self.task).remote()


def identity(pid: int) -> str:
    """Changes when the task executes another program, or the pid is another task's."""
    return _identity(pid, *procfs.birth(entry(pid)))


@lru_cache(maxsize=1 << 12)  # a program that was executed since stands elsewhere, or is loaded alike in all
def _identity(pid: int, start_time: int, start_code: int, start_stack: int) -> str:
    auxv = hashlib.blake2b(procfs.read_bytes(f"/proc/{entry(pid)}/auxv", pid), digest_size=8).hexdigest()
    return f"{pid}:{start_time}:{start_code:x}:{start_stack:x}:{auxv}"


def address_spaces(tasks: Sequence[FrozenTaskLike]) -> list[Mm]:
    """The distinct address spaces of the tasks; tasks that share one (CLONE_VM) are found by kcmp."""
    found: list[Mm] = []
    for task in tasks:
        key = identity(task.pid)
        shape = key.split(":", 2)[2]
        for other in found:
            if other.mm_key.split(":", 2)[2] == shape and kcmp(task.pid, other.pid, uapi.KCMP_VM) == 0:
                other.pids.append(task.pid)
                if other.task.held and not task.held:
                    other.driver = task
                break
        else:
            found.append(Mm(task, [task.pid], key, layout_of(procfs.maps_text(task.pid))))
    return found


def _ranges(lines: Sequence[MapsLine]) -> U64:
    array = np.array([(line.start, line.end) for line in lines], np.uint64).reshape(-1, 2)
    array.setflags(write=False)
    return array


def shared_objects(mms: Sequence[Mm]) -> dict[str, tuple[Mm, MapsLine]]:
    """Space key -> one mapping of each shared memory object of the tree that has no file of its own."""
    objects: dict[str, tuple[Mm, MapsLine]] = {}
    for mm in mms:
        for key, line in mm.layout.objects:
            objects.setdefault(key, (mm, line))
    return objects


def collect_mm(mm: Mm, context: CollectContext) -> MmRecord:
    """Everything about an address space but its pages; shared objects are noted in `context.shared["shm"]`."""
    pid = mm.pid
    stat = procfs.stat(entry(pid))
    remote = mm.remote()
    lines = procfs.smaps(pid)
    status = procfs.status(pid, mm.task.tids[0])
    starts = [line.start for line in lines if backing(line) != "special"]
    policies = mm_policy.collect_policies(remote, starts, int(status["VmRSS"].split()[0]) // 4)
    vmas = tuple(_known_vma(mm, line, policies.get(line.start), context) for line in lines)
    exe_link = f"/proc/{entry(pid)}/exe"
    membarrier = mm_modes.collect_membarrier(remote)
    lock_future = mm_modes.collect_lock_future(remote, lines)
    if lock_future is None:
        reason = "has locked memory and no room for a page more, so that it cannot be asked for mlockall(MCL_FUTURE)"
        context.refuse(pid, "address space", reason, "raise its limit of address space (prlimit --as), or run as root")
    return MmRecord(
        mm_id=pid,
        space=mm.space,
        vmas=vmas,
        start_code=stat.start_code,
        end_code=stat.end_code,
        start_data=stat.start_data,
        end_data=stat.end_data,
        start_brk=stat.start_brk,
        brk=remote.syscall(uapi.SYS_brk, 0),
        start_stack=stat.start_stack,
        arg_start=stat.arg_start,
        arg_end=stat.arg_end,
        env_start=stat.env_start,
        env_end=stat.env_end,
        auxv=procfs.read_bytes(f"/proc/{entry(pid)}/auxv", pid),
        exe=procfs.link(exe_link),
        exe_file_id=collect_mapped_file(context, pid, exe_link, os.O_RDONLY),
        thp_disable=prctl.collect_thp_disable(remote),
        dumpable=prctl.collect_dumpable(remote, status),
        vdso_hash=_vdso_hash(mm, context),
        membarrier=membarrier,
        lock_future=lock_future or 0,
        merge_any=mm_modes.collect_merge_any(remote, vmas),
        ldt=ldt.collect_ldt(remote, lines),
        futex_slots=mm_modes.collect_futex_slots(remote, int(status["Threads"])),
        pkeys=mm_keys.collect_keys(remote, mm.task.tids, lines),
    )


def _vdso_hash(mm: Mm, context: CollectContext) -> bytes:
    line = next((line for line in mm.lines if line.path == "[vdso]"), None)
    if line is None:
        return b""
    with Memory(mm.pid) as memory:
        data = memory.read(line.start, line.end - line.start)
    if data != _own_vdso():
        reason = "has a vdso that was written to, and a restored task has the kernel's own"
        context.refuse(mm.pid, f"vma {line.start:x}-{line.end:x}", reason, "dump it before it changes its vdso")
    return hashlib.blake2b(data, digest_size=16).digest()


@cache
def _own_vdso() -> bytes:
    """That of ckpt itself, which is the same for all 64-bit tasks of a kernel."""
    pid = os.getpid()
    line = next(line for line in procfs.maps(pid) if line.path == "[vdso]")
    with Memory(pid) as memory:
        return memory.read(line.start, line.end - line.start)


def _known_vma(mm: Mm, line: MapsLine, policy: NumaPolicy | None, context: CollectContext) -> Vma:
    """`_vma`, which is the same for the same mapping of the same file in all tasks of a tree, as after a fork."""
    if policy is not None or backing(line) not in ("anon", "file") or "ht" in line.vm_flags:
        return _vma(mm, line, policy, context)
    known: dict[MapsLine, Vma] = context.shared.setdefault("mm.vmas", {})
    if line not in known:
        refusals = len(context.refusals)
        made = _vma(mm, line, policy, context)
        if len(context.refusals) > refusals or line.path.startswith(("socket:[", aio.RING)):
            return made
        known[line] = made
    return known[line]


def _vma(mm: Mm, line: MapsLine, policy: NumaPolicy | None, context: CollectContext) -> Vma:
    kind = backing(line)
    key = file_id = None
    path = line.path
    size = mtime = huge = 0
    magic = unseen.way_to(context, mm.pid, line) if line.ino else mapped.map_file(mm.pid, line)
    subject = f"vma {line.start:x}-{line.end:x}"
    if kind == "shm":
        key = shm.note_mapping(context, mm.pid, line, magic)
    elif line.path.startswith("socket:["):
        file_id = packet.mapped_ring(context, mm.pid, line)
    elif kind == "file":
        flags = os.O_RDWR if line.shared and "mw" in line.vm_flags else os.O_RDONLY
        try:
            known = "" if mapped.map_files_allowed() else line.path
            link = known if magic.startswith("/proc/") else magic
            file_id = collect_mapped_file(context, mm.pid, magic, flags, (line.dev, line.ino, line.path), link=link)
            found = os.stat(magic)
            if "\n" in path:  # maps writes it as it writes a backslash and three digits
                path = link or procfs.link(magic)
            size, mtime = found.st_size, found.st_mtime_ns
            started: dict[int, int] = context.shared.setdefault("mm:started", {})
            if mm.pid not in started:
                started[mm.pid] = overlay.started_ns(mm.pid)
            writes = line.shared and "mw" in line.vm_flags
            if not writes and overlay.is_stale(mm.pid, line, magic, found, started[mm.pid]):
                reason = f"maps {line.path} as it was before overlayfs copied it up, and nothing leads there any more"
                context.refuse(mm.pid, subject, reason, "let the task map the file again")
        except (KernelError, OSError) as error:
            reason = f"maps {line.path}, which cannot be looked at: {error}"
            context.refuse(mm.pid, subject, reason, "run ckpt as root, or let the task keep the file open")
    elif line.path.startswith(aio.RING):
        aio.collect_ring(context, mm.pid, line.start, line.end - line.start)
    if "ht" in line.vm_flags:
        huge = shm.huge_page_size(mm.pid, line, magic)
    if "ss" in line.vm_flags:
        context.refuse(mm.pid, subject, "is a shadow stack")
    if line.path == "[uprobes]":
        context.refuse(mm.pid, subject, "holds code of a tracer (uprobes)", "end the tracing before the dump")
    if ("io" in line.vm_flags or "pf" in line.vm_flags) and kind != "special":
        context.refuse(
            mm.pid, subject, f"maps the memory of a device ({line.path})", "let the task unmap it before the dump"
        )
    return Vma(
        line.start, line.end, line.prot, line.shared, line.offset, path, line.dev, line.ino,
        line.vm_flags, kind, key, file_id, size, mtime, huge, policy, line.pkey,
    )  # fmt: skip
