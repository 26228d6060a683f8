"""The write-protect tracker: userfaultfd WP_ASYNC, read and re-armed in one step by PAGEMAP_SCAN.

A userfaultfd is made inside the target by a remote syscall, taken out with pidfd_getfd and closed there. Only
anonymous memory is registered. Private file mappings are never vouched for: Linux 6.18 does not return from
MADV_GUARD_INSTALL over an armed page of a registered one, and the pages in them that were copied are few.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from ckpt.errors import KernelError, NoSuchTask, RemoteCallError
from ckpt.kernel import keeper, procfs, uapi, userfault
from ckpt.kernel import uapi_pagemap as up
from ckpt.kernel.libc import kernel_error
from ckpt.kernel.pagemap import Pagemap, Regions, contiguous
from ckpt.records.runs import PAGE_SIZE, U64
from ckpt.records.seams import Conclusion, MmAccess, Seen
from ckpt.tracker import canary, spans
from ckpt.tracker.state import pack, unpack

_ANOTHER = "another copy of this chain has had a round since"
_EXEC = "the task has another address space than in the last round (exec)"


class HeldDescriptors:
    """Userfaultfds that this process holds between rounds, in place of keepers; for a pre-copy loop."""

    def __init__(self) -> None:
        self._held: dict[str, int] = {}

    def hold(self, fd: int) -> str:
        """Hold `fd` from now on; gives its token."""
        token = os.urandom(8).hex()
        self._held[token] = fd
        return token

    def take(self, token: str) -> int | None:
        """The descriptor, which is the caller's now."""
        return self._held.pop(token, None)

    def lend(self, token: str) -> int | None:
        """A copy of the descriptor, which stays held."""
        fd = self._held.get(token)
        return None if fd is None else os.dup(fd)

    def settle(self, state: bytes) -> bytes:
        """Hand the descriptor of `state` to a keeper: another process can go on from the new state."""
        fields, reason = unpack(WriteProtect.name, state)
        fd = self.take(str(fields.get("held"))) if reason is None else None
        if fd is None:
            return state
        try:
            made = keeper.start(fd, int(fields["pid"]))
        finally:
            os.close(fd)
        settled = {**fields, "held": None, "keeper": [made.pid, made.start_time], "epoch": keeper.NO_EPOCH}
        return pack(WriteProtect.name, {k: v for k, v in settled.items() if k not in ("tracker", "version")})

    def close(self) -> None:
        """Close everything; tracking of those tasks ends."""
        for fd in self._held.values():
            os.close(fd)
        self._held.clear()


class WriteProtect:
    """See the module's first lines. One object for each address space and round."""

    name = "write-protect"
    by_content = False
    seen: Seen | None = None

    def __init__(self, held: HeldDescriptors | None = None, mark: keeper.Mark | None = None) -> None:
        self._holder = held
        self._mark = mark
        self._keeper: keeper.Keeper | None = None
        self._token: str | None = None
        self._epoch = keeper.NO_EPOCH
        self._fd = -1
        self._waiting = -1  # a userfaultfd that no keeper has yet
        self._kept: dict[str, Any] = {}
        self._canaries: list[int] = []  # of the last round, when all of them are still populated

    # ------------------------------------------------------------------ DirtyTracker

    def collect(self, mm: MmAccess, state: bytes | None) -> tuple[U64 | None, str | None, bytes]:
        """See DirtyTracker; pages that are not populated may be among the clean ones."""
        conclude = self.look(mm, state)
        self.settle()
        return conclude()

    def look(self, mm: MmAccess, state: bytes | None, *, arm: bool = True) -> Conclusion:
        """See DirtyTracker."""
        fields, reason = unpack(self.name, state)
        rows = spans.anonymous(mm.ranges, mm.vma_keys)
        old = dirty = spans.EMPTY
        try:
            if reason is None:
                reason = self._take_over(mm, fields, arm)
            if reason is None and not userfault.is_alive(self._fd):
                os.close(self._fd)
                self._fd = -1
                reason = self._drop(_EXEC)
            if reason is None:
                old, dirty, reason = self._round(mm, rows, fields["canaries"], arm)
                reason = reason or fields["pinned"]
                if reason is not None and arm and not len(old):
                    # Nothing of it is in this address space: it is that of another, in which others live on (CLONE_VM).
                    os.close(self._fd)
                    self._fd = -1
                    reason = self._drop(_EXEC)
                    self._make(mm)
                    self._arm(mm.pid, rows)
            elif arm:
                self._make(mm)
                self._arm(mm.pid, rows)
            if arm:
                self._keep(mm, rows)
        except NoSuchTask:
            raise
        except (KernelError, RemoteCallError) as error:
            if arm:
                self.discard("it could not be armed")
            why = f"{reason}; and write" if reason else "write"
            why = f"{why}-protection could not be armed: {error.message}"
            return lambda: (None, why, pack(self.name, {}))
        finally:
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1

        def conclude() -> tuple[U64 | None, str | None, bytes]:
            if self._kept:
                self._kept["pinned"] = self._kept["pinned"] or mm.pinned_besides()
            clean = None if reason else spans.minus(old, dirty) // np.uint64(PAGE_SIZE)
            return clean, reason, pack(self.name, self._kept if self._waiting < 0 else {})

        return conclude

    def settle(self) -> bytes | None:
        """Start the keeper of a new userfaultfd, which ckpt has held until now."""
        if self._waiting < 0:
            return None
        try:
            self._keeper = keeper.start(self._waiting, self._kept["pid"])
            self._kept["keeper"] = [self._keeper.pid, self._keeper.start_time]
        except (KernelError, NoSuchTask):
            self._kept = {}  # the next round says that this one could not arm
        finally:
            self._let_go()
        return pack(self.name, self._kept)

    def _let_go(self) -> None:
        fd, self._waiting = self._waiting, -1
        if fd >= 0:
            os.close(fd)

    def discard(self, reason: str) -> None:
        """Stop tracking: the epoch that the last image relies on has been consumed."""
        self._let_go()
        if self._holder is not None and self._token is not None:
            fd = self._holder.take(self._token)
            if fd is not None:
                os.close(fd)
        if self._keeper is not None:
            self._keeper.end()
        self._keeper = self._token = None

    # ------------------------------------------------------------------ the descriptor

    def _take_over(self, mm: MmAccess, fields: Mapping[str, Any], arm: bool) -> str | None:
        """Get the last round's descriptor; None, or the reason why there is none."""
        if "mm_key" not in fields:
            return "the last round could not arm write-protection"
        if fields["boot_id"] != procfs.boot_id():
            return "the host was booted since the last round"
        self._keeper = keeper.Keeper(*fields["keeper"]) if fields["keeper"] else None
        if fields["mm_key"] != mm.mm_key:
            return self._drop(_EXEC)
        if fields["held"] is not None:
            fd = None
            if self._holder is not None:
                fd = self._holder.take(fields["held"]) if arm else self._holder.lend(fields["held"])
            if fd is None:
                return "the userfaultfd of the last round was held by a process that has let it go"
            self._fd = fd
            self._token = None if arm else fields["held"]
            return None
        assert self._keeper is not None
        try:
            self._fd = self._keeper.take()
            mark = marked(self._keeper, self._mark)
            if mark.epoch() != fields.get("epoch", keeper.NO_EPOCH):
                os.close(self._fd)
                self._fd = -1
                return self._drop(_ANOTHER)
            if arm:  # before anything is cleared: ckpt may die in between
                self._epoch = mark.begin_epoch()
        except (KernelError, NoSuchTask):
            return self._drop(f"the keeper of the userfaultfd (process {self._keeper.pid}) is gone")
        return None

    def _drop(self, reason: str) -> str:
        if self._keeper is not None:
            self._keeper.end()
            self._keeper = None
        return reason

    def _make(self, mm: MmAccess) -> None:
        """A new userfaultfd of the target's address space, in ckpt's hands."""
        self._fd = mm.remote().take_descriptor(uapi.SYS_userfaultfd, userfault.OPEN_FLAGS)
        userfault.enable(self._fd)

    def _keep(self, mm: MmAccess, rows: U64) -> None:
        if self._holder is not None:
            self._drop("")  # what a keeper held is held here now
            self._token = self._holder.hold(self._fd)
            self._fd = -1
        elif self._keeper is None:
            self._waiting, self._fd, self._epoch = self._fd, -1, keeper.NO_EPOCH
        # The canaries last of all: remote calls must not come between the clear and them.
        self._kept = {
            "canaries": self._sing(mm, rows),
            "pid": mm.pid,
            "mm_key": mm.mm_key,
            "boot_id": procfs.boot_id(),
            "keeper": [self._keeper.pid, self._keeper.start_time] if self._keeper else None,
            "held": self._token,
            "epoch": self._epoch,
            "pinned": mm.pinned(),
        }

    def _sing(self, mm: MmAccess, rows: U64) -> list[int]:
        keys = [key for key in mm.vma_keys if key.startswith("anon")]
        pages = self._canaries
        if not canary.still(pages, rows):
            with Pagemap(mm.pid) as pagemap:
                pages = canary.choose(pagemap, rows, keys)
        return canary.sing(mm, pages)

    # ------------------------------------------------------------------ scan and arm

    def _round(self, mm: MmAccess, rows: U64, canaries: list[int], arm: bool) -> tuple[U64, U64, str | None]:
        """What was armed and what of it was written, or why that counts for nothing. With `arm` everything is armed
        again, new mappings too; without it nothing changes."""
        joined = contiguous(rows)
        page = np.uint64(PAGE_SIZE)
        with Pagemap(mm.pid) as pagemap:
            # Mappings without a registration are new, or were moved by mremap. Registered ones are passed
            # over without a look at their page tables.
            new = _spans(pagemap.scan(joined, mask=up.PAGE_IS_WPALLOWED, inverted=up.PAGE_IS_WPALLOWED))
            # Registering again costs little, and fails for what is registered with another userfaultfd.
            ours = self._register(mm.pid, rows if arm else spans.minus(joined, new), evict=arm)
            old = spans.minus(ours, new) if len(new) else ours
            dirty = _spans(_scan(pagemap, old, arm))
            if arm and len(new):
                self._arm_new(pagemap, spans.both(ours, new))
            there = [_has(old // page, at) and _is_populated(pagemap, at) for at in canaries]
        self._canaries = canaries if all(there) else []
        return old, dirty, canary.verdict(there, [_has(dirty // page, at) for at in canaries])

    def _arm(self, pid: int, rows: U64) -> None:
        ours = self._register(pid, rows)
        with Pagemap(pid) as pagemap:
            self._arm_new(pagemap, ours)

    def _arm_new(self, pagemap: Pagemap, wanted: U64) -> None:
        """Arm what has just been registered.

        A page that was armed before its mapping lost the registration can be written, and still has its bit: it is in
        a mapping with which a moved one was merged, or was moved itself (there the bit goes since 2025, "mm: clear
        uffd-wp PTE/PMD state on mremap()"). Armed as it is, no write to it would be seen.
        """
        for start, end in _spans(_armed(pagemap, wanted)).tolist():
            userfault.unprotect(self._fd, start, end)
        _scan(pagemap, wanted, arm=True)

    def _register(self, pid: int, rows: U64, *, evict: bool = True) -> U64:
        """Register the mappings; gives the spans that are registered now. `evict` ends other keepers in the way."""
        if not len(rows):
            return rows
        failed = self._try(contiguous(rows))
        if evict and any(number == errno.EBUSY for number in failed.values()):
            for leftover in keeper.find(pid):  # of a round that never committed, or of another chain
                if leftover != self._keeper:
                    leftover.end()
            failed = self._try(contiguous(rows))
        if not failed:
            return contiguous(rows)
        one_by_one = self._try(rows)
        keep = np.fromiter((start not in one_by_one for start in rows[:, 0].tolist()), np.bool_, len(rows))
        if not keep.any():
            number = next(iter(one_by_one.values()))
            raise kernel_error(f"none of the memory of task {pid} could be registered", number)
        return contiguous(rows[keep])

    def _try(self, wanted: U64) -> dict[int, int]:
        """Register each span; gives start -> errno of those that could not be."""
        failed = {}
        for start, end in wanted.tolist():
            try:
                userfault.register(self._fd, start, end)
            except KernelError as error:
                failed[start] = error.errno
        return failed


def _spans(regions: Regions) -> U64:
    return contiguous(np.stack([regions["start"], regions["end"]], axis=1).astype(np.uint64))


def _scan(pagemap: Pagemap, wanted: U64, arm: bool) -> Regions:
    """The populated pages written since they were armed; with `arm` they are armed again in the same step.

    Pages that are not there are left alone: they are absent in the populated map, and whatever comes in
    their place is not armed, which is as good as written. Armed, they would look like swapped pages.
    """
    return pagemap.scan(
        wanted,
        mask=up.PAGE_IS_WRITTEN,
        anyof=up.PAGE_IS_PRESENT | up.PAGE_IS_SWAPPED,
        returned=up.PAGE_IS_WRITTEN,
        flags=up.PM_SCAN_WP_MATCHING if arm else 0,
    )


def _armed(pagemap: Pagemap, wanted: U64) -> Regions:
    """The populated pages that have the bit of write-protection."""
    return pagemap.scan(
        wanted,
        mask=up.PAGE_IS_WRITTEN,
        inverted=up.PAGE_IS_WRITTEN,
        anyof=up.PAGE_IS_PRESENT | up.PAGE_IS_SWAPPED,
        returned=up.PAGE_IS_PRESENT,
    )


def _is_populated(pagemap: Pagemap, page: int) -> bool:
    return pagemap.entry(page) & (up.PM_PRESENT | up.PM_SWAP) != 0


def _has(of: U64, page: int) -> bool:
    row = int(np.searchsorted(of[:, 0], page, "right")) - 1
    return row >= 0 and page < int(of[row, 1])


def mark_of(tracker: str, state: bytes | None) -> keeper.Mark | None:
    """The mark of the keeper that a state names, opened before the freeze; None when there is none, or it is gone."""
    fields, _ = unpack(tracker, state)
    named = fields.get("keeper") or fields.get("witness")
    try:
        return keeper.Mark(keeper.Keeper(*named)) if named else None
    except (KernelError, NoSuchTask):
        return None


def marked(wanted: keeper.Keeper, mark: keeper.Mark | None) -> keeper.Mark:
    """`mark` if it is that keeper's, else one that is."""
    return mark if mark is not None and mark.keeper == wanted else keeper.Mark(wanted)


def release(state: bytes | None) -> None:
    """End the keeper that a state names, when the state will not be used again."""
    fields, reason = unpack(WriteProtect.name, state)
    if reason is None and fields.get("keeper") and fields.get("boot_id") == procfs.boot_id():
        keeper.Keeper(*fields["keeper"]).end()
