"""Making the mappings of an address space in its skeleton: anonymous, of files, of shared memory objects."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from ckpt.errors import KernelError, RestoreError
from ckpt.kernel import uapi, uapi_ipc, uapi_restore
from ckpt.records.mm import ShmRecord, Vma
from ckpt.state.context import RestoreContext
from ckpt.state.files.channel import receive, send
from ckpt.trace.skeleton import Skeleton

_ANONYMOUS = (1 << 64) - 1
_ZERO_DEVICE = "/dev/zero"


@dataclass
class Mapper:
    """Maps into one skeleton, whose table holds a file only while its mappings are made."""

    context: RestoreContext
    task: Skeleton
    vmas: Sequence[Vma] = ()  # all that are to be mapped
    _attached: set[int] = field(default_factory=set)  # starts of mappings that came with another of their attachment
    _open: dict[str, int] = field(default_factory=dict)  # descriptors in the task

    def map(self, vma: Vma, writable: bool) -> None:
        """One mapping at its place; `writable` whatever its protection, for pages that will be filled in."""
        prot = vma.prot | uapi.PROT_READ | uapi.PROT_WRITE if writable else vma.prot
        record = self._object(vma)
        if record is not None and record.kind == "sysv":
            self._attach(vma, record)
            return
        fd = self._descriptor(vma)
        flags = uapi.MAP_FIXED_NOREPLACE | _kind(vma)
        if fd == _ANONYMOUS:
            flags |= uapi.MAP_ANONYMOUS
            if "gd" in vma.vm_flags:
                flags |= uapi.MAP_GROWSDOWN
            if vma.huge_page:
                flags |= uapi.MAP_HUGETLB | (vma.huge_page.bit_length() - 1) << uapi.MAP_HUGE_SHIFT
        if "nr" in vma.vm_flags:
            flags |= uapi.MAP_NORESERVE
        offset = 0 if fd == _ANONYMOUS else vma.pgoff
        self.call(vma, "mmap", uapi.SYS_mmap, vma.start, vma.end - vma.start, prot, flags, fd, offset)

    def call(self, vma: Vma, what: str, nr: int, *args: int) -> int:
        """A call in the task; RestoreError that names the mapping when it fails."""
        try:
            return self.task.syscall(nr, *args)
        except KernelError as error:
            raise self.failed(vma, f"{what}: {error.message}") from None

    def failed(self, vma: Vma, why: str) -> RestoreError:
        """The error about one mapping."""
        name = f" ({vma.name})" if vma.name else ""
        return RestoreError(f"task {self.task.pid}: vma {vma.start:x}-{vma.end:x}{name}: {why}")

    # ------------------------------------------------------------------ shared memory and files

    def _object(self, vma: Vma) -> ShmRecord | None:
        objects: dict[str, ShmRecord] = self.context.shared.get("shm_records", {})
        return objects.get(vma.shm) if vma.shm is not None else None

    def _attach(self, vma: Vma, record: ShmRecord) -> None:
        """shmat, which counts as the task's, for all that is still mapped of one: shmdt ends the pieces together."""
        if vma.start in self._attached:
            return
        whole = -(-record.size // uapi.PAGE_SIZE) * uapi.PAGE_SIZE
        flags = 0 if "mw" in vma.vm_flags else uapi_ipc.SHM_RDONLY
        place = _attachment(vma)
        pieces = [other for other in self.vmas if other.shm == vma.shm and _attachment(other) == place]
        if [(piece.pgoff, piece.end - piece.start) for piece in pieces] == [(0, whole)]:
            self.call(vma, "shmat", uapi.SYS_shmat, record.sysv_id, vma.start, flags)
        else:
            self._attach_apart(vma, pieces, whole, record.sysv_id, flags)
        for piece in pieces:
            self.call(piece, "mprotect", uapi.SYS_mprotect, piece.start, piece.end - piece.start, piece.prot)
            self._attached.add(piece.start)

    def _attach_apart(self, vma: Vma, pieces: Sequence[Vma], whole: int, sysv_id: int, flags: int) -> None:
        """Attached anywhere, and moved to their places, which are held free meanwhile."""
        hold = uapi.MAP_PRIVATE | uapi.MAP_ANONYMOUS | uapi.MAP_FIXED_NOREPLACE
        move = uapi.MREMAP_MAYMOVE | uapi.MREMAP_FIXED
        for piece in pieces:
            self.call(piece, "mmap", uapi.SYS_mmap, piece.start, piece.end - piece.start, 0, hold, _ANONYMOUS, 0)
        base = self.call(vma, "shmat", uapi.SYS_shmat, sysv_id, 0, flags)
        rest = 0
        for piece in sorted(pieces, key=lambda piece: piece.pgoff):
            size = piece.end - piece.start
            if rest < piece.pgoff:
                self.call(piece, "munmap", uapi.SYS_munmap, base + rest, piece.pgoff - rest)
            self.call(piece, "mremap", uapi.SYS_mremap, base + piece.pgoff, size, size, move, piece.start)
            rest = piece.pgoff + size
        if rest < whole:
            self.call(vma, "munmap", uapi.SYS_munmap, base + rest, whole - rest)

    def _descriptor(self, vma: Vma) -> int:
        """The number in the task of the file that the mapping needs; only the last one is kept open."""
        source = source_of(vma)
        if not source:
            return _ANONYMOUS
        if source not in self._open:
            self.close_all()
            self._open[source] = self.give(self._ours(vma))
        return self._open[source]

    def _ours(self, vma: Vma) -> int:
        if vma.backing == "anon":
            if _ZERO_DEVICE not in self.context.shared:
                fd = os.open(_ZERO_DEVICE, os.O_RDWR | os.O_CLOEXEC)
                self.context.stack.callback(os.close, fd)
                self.context.shared[_ZERO_DEVICE] = fd
            return int(self.context.shared[_ZERO_DEVICE])
        if vma.backing == "shm":
            ours = self.context.shared.get("shm_fds", {}).get(vma.shm)
            if ours is not None and not _may_write(vma):
                ours = self._read_only(int(ours), source_of(vma))
        else:
            ours = self.context.opened.get(vma.file_id or 0)
        if ours is None:
            raise self.failed(vma, "its file is not in the image")
        return int(ours)

    def _read_only(self, fd: int, source: str) -> int:
        """The object as the task had it open: mprotect cannot make such a mapping writable."""
        opened = self.context.shared.setdefault("shm_read_only", {})
        if source not in opened:
            with suppress(PermissionError):  # by its mode; then the mapping can be made writable
                opened[source] = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)
                self.context.stack.callback(os.close, opened[source])
        return int(opened.get(source, fd))

    def give(self, fd: int) -> int:
        """Hand one descriptor of ckpt to the task; gives its number there."""
        send(self.context, [fd])
        return receive(self.task, self.context.shared["files:channel-number"], 1, True)[0]

    def give_as(self, name: str, fd: int) -> int:
        """`give`, and close it with the others."""
        self._open[name] = self.give(fd)
        return self._open[name]

    def close_all(self) -> None:
        """Close what the task holds for its mappings."""
        while self._open:
            self.task.syscall(uapi_restore.SYS_close, self._open.popitem()[1])


def _kind(vma: Vma) -> int:
    if "dp" in vma.vm_flags:
        return uapi.MAP_DROPPABLE
    if "sf" in vma.vm_flags:  # of a file on persistent memory
        return uapi.MAP_SHARED_VALIDATE | uapi.MAP_SYNC
    return uapi.MAP_SHARED if vma.shared else uapi.MAP_PRIVATE


def _attachment(vma: Vma) -> tuple[int, bool]:
    """Where the segment of a mapping begins, or would: the mappings of one attachment have that in common."""
    return vma.start - vma.pgoff, "mw" in vma.vm_flags


def _may_write(vma: Vma) -> bool:
    return not vma.shared or "mw" in vma.vm_flags


def source_of(vma: Vma) -> str:
    """What is mapped; mappings of one object stand together, so that each is handed over once."""
    if vma.backing == "shm":
        return f"{vma.shm}{'' if _may_write(vma) else ':read-only'}"
    if vma.backing == "file" and vma.file_id is not None:
        return f"file:{vma.file_id:08}"
    return _ZERO_DEVICE if vma.name == _ZERO_DEVICE else ""
