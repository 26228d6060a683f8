"""Rebuilding an address space in the skeleton of its first task.

Everything is mapped at its place, writable where pages must be filled in, filled by process_vm_writev, and
only then advised, locked, protected and sealed.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from ckpt.errors import HostMismatch, KernelError, RestoreError
from ckpt.kernel import memory, procfs, uapi, uapi_restore
from ckpt.kernel.memory import IOV_MAX, Memory
from ckpt.records.mm import MmRecord, Vma
from ckpt.records.runs import DATA, GUARD, PAGE_SIZE, U64, ZERO, PageRuns
from ckpt.state import aio, ldt, mm_inherit, mm_keys
from ckpt.state.context import RestoreContext
from ckpt.state.mm_map import Mapper, source_of
from ckpt.state.mm_modes import restore_modes
from ckpt.state.mm_policy import restore_policy
from ckpt.state.prctl import restore_thp_disable
from ckpt.trace.skeleton import PARKING_SIZE, Skeleton

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
    """Builds one mm: `populate`, after which others may be cloned from it, and `complete`. Both together do
    everything but unmapping the skeleton's own block."""

    context: RestoreContext
    task: Skeleton
    mm: MmRecord
    donor: mm_inherit.Donor | None = None  # whose memory the skeleton has a copy of

    def __post_init__(self) -> None:
        self.mapper = Mapper(self.context, self.task)
        self.kept = mm_inherit.Kept()
        self.runs = self.context.view.runs(self.mm.space)
        self.vmas = [vma for vma in self.mm.vmas if vma.backing != "special"]
        self.unfit = _not_writable_with_data(self.vmas, self.runs)

    def populate(self) -> Iterator[int]:
        """Map and fill; yields the pages filled after each batch. RestoreError names the mapping."""
        restore_thp_disable(self.task, self.mm.thp_disable)
        mm_keys.reserve_keys(self.task, self.mm)
        if self.donor is not None:
            self._keep(self.donor)
        self._move_special()
        self.mapper.vmas = [vma for vma in self.vmas if vma.start not in self.kept.starts]
        for vma in sorted(self.mapper.vmas, key=source_of):
            self.mapper.map(vma, vma.start in self.unfit)
            restore_policy(self.mapper, vma)
            for flag, advice in _ADVICE_BEFORE.items():
                if flag in vma.vm_flags:
                    self._advise(vma, advice)
        self.mapper.close_all()
        self._make_rings()
        yield from self._fill()
        self._zero_file_pages()

    def as_donor(self) -> mm_inherit.Donor:
        """What a clone of the task has from now on until `complete`."""
        return mm_inherit.Donor(self.mm, self.runs, frozenset(self.unfit))

    def complete(self) -> None:
        """Guard pages, advice, protection, locks, what /proc shows, seals."""
        self._guard()
        for vma in self.vmas:
            self._finish(vma, vma.start in self.unfit)
        mm_keys.release_keys(self.task, self.mm, self.donor.mm if self.donor else None)
        self._fields()
        ldt.restore_ldt(self.task, self.mm.ldt)
        restore_modes(self.task, self.mm)
        for vma in self.vmas:
            if "sl" in vma.vm_flags:
                self.mapper.call(vma, "mseal", uapi_restore.SYS_mseal, vma.start, vma.end - vma.start, 0)

    # ------------------------------------------------------------------ mapping

    def _keep(self, donor: mm_inherit.Donor) -> None:
        self.kept = mm_inherit.keep(donor, self.mm, self.runs, self.unfit)
        self.unfit |= self.kept.writable
        for start, end in self.kept.surplus.tolist():
            self.task.syscall(uapi.SYS_munmap, start, end - start)
        for start, end in (self.kept.stale * np.uint64(PAGE_SIZE)).tolist():
            self.task.syscall(uapi.SYS_madvise, start, end - start, uapi.MADV_DONTNEED)

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

    def _advise(self, vma: Vma, advice: int) -> None:
        try:
            self.task.syscall(uapi.SYS_madvise, vma.start, vma.end - vma.start, advice)
        except KernelError as error:
            if error.errno != errno.EINVAL or advice not in _MAY_LACK:
                raise self.mapper.failed(vma, f"madvise {advice}: {error.message}") from None

    def _make_rings(self) -> None:
        places = {vma.start: vma for vma in self.mm.vmas if vma.name.startswith(aio.RING)}
        for ring in self.context.view.records("aio"):
            if ring.mm_id == self.mm.mm_id and ring.start in places:
                aio.make_ring(self.mapper, places[ring.start], ring)

    # ------------------------------------------------------------------ content

    def _fill(self) -> Iterator[int]:
        slow = self.task.memory  # opened here, for the threads share it
        yield from self.context.view.scatter(self.mm.space, partial(self._write, slow))

    def _write(self, slow: Memory, pages: U64, data: memoryview) -> None:
        """On a thread: a frame's pages to their places."""
        if len(self.kept.common):
            wanted = mm_inherit.differing(slow, pages, data, self.kept.common)
            if not len(wanted):
                return
            if len(wanted) < len(pages):
                pages = pages[wanted]
                data = np.frombuffer(data, np.uint8).reshape(-1, PAGE_SIZE)[wanted].reshape(-1).data
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

    def _zero_file_pages(self) -> None:
        """A zero page over a file's content must be written; anonymous memory is zero by itself."""
        zero = self.runs.of(ZERO)
        for vma in self.vmas:
            if vma.backing != "anon" and not vma.shared:
                for start, end in _overlaps(vma, zero):
                    for at in range(start, end, 1 << 20):
                        self.task.memory.write(at, bytes(min(end - at, 1 << 20)))

    def _guard(self) -> None:
        guard = self.runs.of(GUARD)
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
            self.mapper.call(vma, "PR_SET_VMA_ANON_NAME", uapi.SYS_prctl, *what, vma.start, size, text)
        if vma.pkey and vma.pkey != mm_keys.execute_only(self.mm):
            self.mapper.call(vma, "pkey_mprotect", uapi.SYS_pkey_mprotect, vma.start, size, vma.prot, vma.pkey)
        elif protect:
            self.mapper.call(vma, "mprotect", uapi.SYS_mprotect, vma.start, size, vma.prot)
        if "lo" in vma.vm_flags:
            self._lock(vma)

    def _lock(self, vma: Vma) -> None:
        """A page that the task's mlock did not reach stays one of the file: to bring it in would make a copy of it."""
        onfault = uapi_restore.MLOCK_ONFAULT if "lf" in vma.vm_flags else 0
        at, size, room = vma.start, vma.end - vma.start, 0
        copies = vma.backing != "anon" and not vma.shared and vma.prot & uapi.PROT_WRITE and not vma.huge_page
        if copies and not onfault:
            # With a hole behind the mapping, mlock marks all of it, fails there, and brings nothing in.
            reserved = (uapi.PROT_NONE, uapi.MAP_PRIVATE | uapi.MAP_ANONYMOUS | uapi.MAP_NORESERVE, -1, 0)
            at, room = self.mapper.call(vma, "mmap", uapi.SYS_mmap, 0, size + PAGE_SIZE, *reserved), PAGE_SIZE
            self.mapper.call(vma, "munmap", uapi.SYS_munmap, at + size, PAGE_SIZE)
            self._mremap(vma.start, size, at)
        try:
            self.task.syscall(uapi.SYS_mlock2, at, size + room, onfault)
        except KernelError as error:
            # Bringing the pages in fails where there is no access, and beyond the end of an object.
            if error.errno != errno.ENOMEM or not self._is_locked(at, at + size):
                raise self.mapper.failed(vma, f"mlock: {error.message}") from None
        if at != vma.start:
            self._mremap(at, size, vma.start)

    def _is_locked(self, start: int, end: int) -> bool:
        lines = procfs.smaps(self.task.pid)
        return all("lo" in line.vm_flags for line in lines if line.start < end and start < line.end)

    def _fields(self) -> None:
        """What /proc shows of the mm, and its executable."""
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
            self.mapper.close_all()

    def _executable(self) -> int:
        if self.mm.exe_file_id is None or self.mm.exe_file_id not in self.context.opened:
            raise RestoreError(f"task {self.task.pid}: its executable {self.mm.exe} is not in the image")
        return self.mapper.give_as("exe", self.context.opened[self.mm.exe_file_id])


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
