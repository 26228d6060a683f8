"""Rebuilding an address space in the skeleton of its first task.

Everything is mapped at its place, writable where pages must be filled in, filled by process_vm_writev, and
only then advised, locked, protected and sealed.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from ckpt.errors import HostMismatch, KernelError, RestoreError
from ckpt.kernel import memory, procfs, uapi, uapi_restore
from ckpt.kernel.memory import IOV_MAX, Memory
from ckpt.records.mm import MmRecord, Vma
from ckpt.records.runs import DATA, GUARD, PAGE_SIZE, U64, ZERO, PageRuns
from ckpt.state.context import RestoreContext
from ckpt.state.files.channel import receive, send
from ckpt.state.prctl import restore_thp_disable
from ckpt.trace.skeleton import PARKING_SIZE, Skeleton

_ANONYMOUS = (1 << 64) - 1
# VmFlags of smaps -> madvise, before and after the pages are filled in
_ADVICE_BEFORE = {"hg": uapi.MADV_HUGEPAGE, "nh": uapi.MADV_NOHUGEPAGE}
_ADVICE_AFTER = {
    "rr": uapi.MADV_RANDOM,
    "sr": uapi.MADV_SEQUENTIAL,
    "dc": uapi.MADV_DONTFORK,
    "dd": uapi.MADV_DONTDUMP,
    "mg": uapi.MADV_MERGEABLE,
    "wf": uapi.MADV_WIPEONFORK,
}
_MAY_LACK = {uapi.MADV_HUGEPAGE, uapi.MADV_NOHUGEPAGE, uapi.MADV_MERGEABLE}  # kernel options


@dataclass
class MmBuilder:
    """Builds one mm; `build` does everything but unmapping the skeleton's own block."""

    context: RestoreContext
    task: Skeleton
    mm: MmRecord
    _open: dict[str, int] = field(default_factory=dict)  # descriptors in the task while it is built

    def build(self) -> Iterator[int]:
        """Map, fill, protect; yields the pages filled after each batch. RestoreError names the mapping."""
        runs = self.context.view.runs(self.mm.space)
        vmas = [vma for vma in self.mm.vmas if vma.backing != "special"]
        unfit = _not_writable_with_data(vmas, runs)
        restore_thp_disable(self.task, self.mm.thp_disable)
        self._move_special()
        for vma in sorted(vmas, key=_source):
            self._map(vma, vma.start in unfit)
        self._close_all()
        yield from self._fill()
        self._zero_file_pages(vmas, runs)
        self._guard(runs)
        for vma in vmas:
            self._finish(vma, vma.start in unfit)
        self._fields()
        for vma in vmas:
            if "sl" in vma.vm_flags:
                self._call(vma, "mseal", uapi_restore.SYS_mseal, vma.start, vma.end - vma.start, 0)

    # ------------------------------------------------------------------ mapping

    def _call(self, vma: Vma, what: str, nr: int, *args: int) -> int:
        try:
            return self.task.syscall(nr, *args)
        except KernelError as error:
            raise self._failed(vma, f"{what}: {error.message}") from None

    def _failed(self, vma: Vma, why: str) -> RestoreError:
        name = f" ({vma.name})" if vma.name else ""
        return RestoreError(f"task {self.task.pid}: vma {vma.start:x}-{vma.end:x}{name}: {why}")

    def _move_special(self) -> None:
        """vdso and vvar go to their old places by way of the parking, for old and new places may overlap."""
        parked: dict[str, tuple[int, int]] = {}
        at = self.task.block.parking
        for line in procfs.maps(self.task.pid):
            if not line.path.startswith(("[vdso", "[vvar")):
                continue
            size = line.end - line.start
            if at + size > self.task.block.parking + PARKING_SIZE:
                raise HostMismatch(f"{line.path} of this kernel takes {size} bytes, more than ckpt can move")
            self._mremap(line.start, size, at)
            parked[line.path] = (at, size)
            at += size
        for vma in self.mm.vmas:
            if vma.backing != "special" or not vma.name.startswith(("[vdso", "[vvar")):
                continue
            here, size = parked.pop(vma.name, (0, 0))
            if size != vma.end - vma.start:
                raise HostMismatch(
                    f"task {self.task.pid}: its {vma.name} took {vma.end - vma.start} bytes, "
                    f"this kernel's takes {size}",
                    hint="restore on the kernel that the image was made on",
                )
            self._mremap(here, size, vma.start)
        for here, size in parked.values():
            self.task.syscall(uapi.SYS_munmap, here, size)

    def _mremap(self, old: int, size: int, new: int) -> None:
        flags = uapi.MREMAP_MAYMOVE | uapi.MREMAP_FIXED
        self.task.syscall(uapi.SYS_mremap, old, size, size, flags, new)

    def _map(self, vma: Vma, writable: bool) -> None:
        if "ss" in vma.vm_flags:
            raise self._failed(vma, "is a shadow stack, which ckpt cannot rebuild")
        prot = vma.prot | uapi.PROT_READ | uapi.PROT_WRITE if writable else vma.prot
        flags = uapi.MAP_FIXED_NOREPLACE | (uapi.MAP_SHARED if vma.shared else uapi.MAP_PRIVATE)
        fd, offset = _ANONYMOUS, 0
        if vma.backing == "anon":
            flags |= uapi.MAP_ANONYMOUS
            if "gd" in vma.vm_flags:
                flags |= uapi.MAP_GROWSDOWN
            if "ht" in vma.vm_flags:
                flags |= uapi.MAP_HUGETLB
        else:
            fd, offset = self._descriptor(vma), vma.pgoff
        if "nr" in vma.vm_flags:
            flags |= uapi.MAP_NORESERVE
        self._call(vma, "mmap", uapi.SYS_mmap, vma.start, vma.end - vma.start, prot, flags, fd, offset)
        for flag, advice in _ADVICE_BEFORE.items():
            if flag in vma.vm_flags:
                self._advise(vma, advice)

    def _descriptor(self, vma: Vma) -> int:
        """The number in the task of the file that the mapping needs; only the last one is kept open."""
        source = _source(vma)
        if source not in self._open:
            self._close_all()
            if vma.backing == "shm":
                ours = self.context.shared.get("shm_fds", {}).get(vma.shm)
            else:
                ours = self.context.opened.get(vma.file_id or 0)
            if ours is None:
                raise self._failed(vma, "its file is not in the image")
            self._open[source] = self.give(ours)
        return self._open[source]

    def give(self, fd: int) -> int:
        """Hand one descriptor of ckpt to the task; gives its number there."""
        send(self.context, [fd])
        return receive(self.task, self.context.shared["files:channel-number"], 1, True)[0]

    def _close_all(self) -> None:
        while self._open:
            self.task.syscall(uapi_restore.SYS_close, self._open.popitem()[1])

    def _advise(self, vma: Vma, advice: int) -> None:
        try:
            self.task.syscall(uapi.SYS_madvise, vma.start, vma.end - vma.start, advice)
        except KernelError as error:
            if error.errno != errno.EINVAL or advice not in _MAY_LACK:
                raise self._failed(vma, f"madvise {advice}: {error.message}") from None

    # ------------------------------------------------------------------ content

    def _fill(self) -> Iterator[int]:
        slow = self.task.memory  # opened here, for the threads share it
        yield from self.context.view.scatter(self.mm.space, partial(self._write, slow))

    def _write(self, slow: Memory, pages: U64, data: memoryview) -> None:
        """On a thread: a frame's pages to their places."""
        address = np.frombuffer(data, np.uint8).ctypes.data
        done = 0
        for start, length in _pieces(pages):
            size = int(length.sum())
            written = memory.writev(self.task.pid, start, length, address + done)
            if written != size:
                self._fill_slowly(slow, start, length, data[done : done + size])
            done += size

    def _fill_slowly(self, slow: Memory, start: U64, length: U64, data: memoryview) -> None:
        """Through /proc/PID/mem, which also writes where the protection forbids it."""
        offset = 0
        for address, size in zip(start.tolist(), length.tolist(), strict=True):
            try:
                slow.write(address, data[offset : offset + size])
            except KernelError as error:
                raise RestoreError(
                    f"task {self.task.pid}: page {address:#x} cannot be filled: {error.message}",
                    hint="the image's map list and its pages do not agree: verify the chain",
                ) from None
            offset += size

    def _zero_file_pages(self, vmas: list[Vma], runs: PageRuns) -> None:
        """A zero page over a file's content must be written; anonymous memory is zero by itself."""
        zero = runs.of(ZERO)
        for vma in vmas:
            if vma.backing != "anon" and not vma.shared:
                for start, end in _overlaps(vma, zero):
                    for at in range(start, end, 1 << 20):
                        self.task.memory.write(at, bytes(min(end - at, 1 << 20)))

    def _guard(self, runs: PageRuns) -> None:
        guard = runs.of(GUARD)
        starts = guard.start * np.uint64(PAGE_SIZE)
        sizes = guard.nr_pages * np.uint64(PAGE_SIZE)
        for start, size in zip(starts.tolist(), sizes.tolist(), strict=True):
            try:
                self.task.syscall(uapi.SYS_madvise, start, size, uapi.MADV_GUARD_INSTALL)
            except KernelError as error:
                raise RestoreError(
                    f"task {self.task.pid}: guard pages at {start:#x}: {error.message}",
                    hint="guard pages need Linux 6.13 or newer",
                ) from None

    # ------------------------------------------------------------------ the finish

    def _finish(self, vma: Vma, protect: bool) -> None:
        size = vma.end - vma.start
        for flag, advice in _ADVICE_AFTER.items():
            if flag in vma.vm_flags:
                self._advise(vma, advice)
        name = vma.name
        if name.startswith(("[anon:", "[anon_shmem:")):
            text = self.task.put(name.partition(":")[2][:-1].encode("utf-8", "surrogateescape") + b"\0")
            what = (uapi_restore.PR_SET_VMA, uapi_restore.PR_SET_VMA_ANON_NAME)
            self._call(vma, "PR_SET_VMA_ANON_NAME", uapi.SYS_prctl, *what, vma.start, size, text)
        if protect:
            self._call(vma, "mprotect", uapi.SYS_mprotect, vma.start, size, vma.prot)
        if "lo" in vma.vm_flags:
            onfault = uapi_restore.MLOCK_ONFAULT if "lf" in vma.vm_flags else 0
            try:
                self.task.syscall(uapi.SYS_mlock2, vma.start, size, onfault)
            except KernelError as error:
                # Locked all the same: only bringing the pages in failed, as it must without access.
                if error.errno != errno.ENOMEM or vma.prot & uapi.PROT_READ:
                    raise self._failed(vma, f"mlock: {error.message}") from None

    def _fields(self) -> None:
        """What /proc shows of the mm, its executable, and what is registered for it."""
        mm, task = self.mm, self.task
        if mm.start_stack:
            exe = self._executable()
            auxv = task.put(mm.auxv, 256) if mm.auxv else 0
            values = uapi_restore.prctl_mm_map.pack(
                mm.start_code, mm.end_code, mm.start_data, mm.end_data, mm.start_brk, mm.brk, mm.start_stack,
                mm.arg_start, mm.arg_end, mm.env_start, mm.env_end, auxv, len(mm.auxv), exe,
            )  # fmt: skip
            try:
                task.syscall(
                    uapi.SYS_prctl, uapi_restore.PR_SET_MM, uapi_restore.PR_SET_MM_MAP,
                    task.put(values), len(values), 0,
                )  # fmt: skip
            except KernelError as error:
                raise RestoreError(f"task {task.pid}: PR_SET_MM_MAP (exe {mm.exe}): {error.message}") from None
            self._close_all()
        for bit in range(32):
            if mm.membarrier >> bit & 1:
                task.syscall(uapi.SYS_membarrier, 1 << bit, 0, 0)

    def _executable(self) -> int:
        if self.mm.exe_file_id is None or self.mm.exe_file_id not in self.context.opened:
            raise RestoreError(f"task {self.task.pid}: its executable {self.mm.exe} is not in the image")
        self._open["exe"] = self.give(self.context.opened[self.mm.exe_file_id])
        return self._open["exe"]


def _source(vma: Vma) -> str:
    """Mappings of one object stand together, so that each is handed over once."""
    if vma.backing == "shm":
        return vma.shm or ""
    return f"file:{vma.file_id:08}" if vma.backing == "file" and vma.file_id is not None else ""


def _overlaps(vma: Vma, runs: PageRuns) -> Iterator[tuple[int, int]]:
    """The parts of the runs inside a mapping: (start, end) in bytes."""
    first, last = vma.start // PAGE_SIZE, vma.end // PAGE_SIZE
    ends = runs.start + runs.nr_pages
    at = int(np.searchsorted(ends, first, "right"))
    while at < len(runs.start) and int(runs.start[at]) < last:
        yield max(int(runs.start[at]), first) * PAGE_SIZE, min(int(ends[at]), last) * PAGE_SIZE
        at += 1


def _not_writable_with_data(vmas: list[Vma], runs: PageRuns) -> set[int]:
    """The starts of private mappings that are filled though their final protection forbids writing."""
    data = runs.of(DATA)
    return {
        vma.start
        for vma in vmas
        if not vma.prot & uapi.PROT_WRITE and not vma.shared and next(_overlaps(vma, data), None)
    }


def _pieces(pages: U64) -> Iterator[tuple[U64, U64]]:
    """Page numbers, each once, as (start, length) in bytes of contiguous pieces, at most IOV_MAX at a time."""
    if not len(pages):
        return
    cut = np.flatnonzero(np.diff(pages) != 1)
    if not len(cut):
        yield pages[:1] * np.uint64(PAGE_SIZE), np.array([len(pages) * PAGE_SIZE], np.uint64)
        return
    first = np.concatenate([[0], cut + 1])
    length = np.diff(first, append=len(pages))
    for at in range(0, len(first), IOV_MAX):
        part = slice(at, at + IOV_MAX)
        start = pages[first[part]] * np.uint64(PAGE_SIZE)
        yield start, length[part].astype(np.uint64) * np.uint64(PAGE_SIZE)


def free_block(mms: list[MmRecord], size: int, lowest: int = 0x10_0000) -> int:
    """An address at which `size` bytes, with a margin around them, are free in every mm."""
    margin = 2 << 20  # more than the gap that the kernel keeps below a growing stack
    taken = sorted((vma.start, vma.end) for mm in mms for vma in mm.vmas)
    at = lowest
    for start, end in taken:
        if start >= at + size + margin:
            break
        at = max(at, (end + margin + (1 << 20) - 1) & -(1 << 20))
    if at + size + margin > 0x7000_0000_0000:
        raise RestoreError("no address is free in every task of the tree for the code that rebuilds it")
    return at
