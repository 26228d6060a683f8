"""The Protocols at which the parts meet. No code lives here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from ckpt.records.base import Record
from ckpt.records.image import ImageHeader, Statistics
from ckpt.records.runs import U8, U64, PageRuns

# ---------------------------------------------------------------- process side


@runtime_checkable
class RemoteTask(Protocol):
    """One stopped thread in which system calls can be run: a frozen one, or a skeleton that restore builds on.

    `syscall` raises KernelError with the errno when the call fails. `scratch` is the address of a buffer of
    `scratch_size` bytes (at least 2048) in the task, free to use between two calls; `put` writes bytes there and
    gives their address (offset a multiple of 8), `read`/`write` reach any address.
    """

    @property
    def pid(self) -> int: ...

    @property
    def tid(self) -> int: ...

    @property
    def scratch(self) -> int: ...

    @property
    def scratch_size(self) -> int: ...

    def syscall(self, nr: int, *args: int) -> int: ...

    def put(self, data: bytes, offset: int = 0) -> int: ...

    def read(self, address: int, size: int) -> bytes: ...

    def write(self, address: int, data: bytes) -> None: ...


class LiveTask(RemoteTask, Protocol):
    """A frozen thread that will run on: whatever becomes of ckpt, a call leaves nothing behind in it."""

    def run_all(self, calls: Sequence[Sequence[int]]) -> None:
        """Run (nr, argument…) one after the other, quicker than by `syscall`; only what they write can be seen."""

    def take_descriptor(self, nr: int, *args: int) -> int:
        """Run a call that opens a descriptor; gives one of ckpt's own for it, the thread's is closed again."""

    def through(self, nr: int, *args: int) -> AbstractContextManager[None]:
        """Inside, should ckpt die, the thread makes this call on its way back to its own registers."""


class MmAccess(Protocol):
    """One address space whose tasks are frozen, as a tracker sees it."""

    @property
    def pid(self) -> int: ...

    @property
    def mm_key(self) -> str:
        """Changes whenever the address space is another one: pid, start time and mm identity."""

    @property
    def ranges(self) -> U64:
        """Tracked private mappings, shape (n, 2): start and end in bytes, sorted, disjoint."""

    @property
    def joined(self) -> U64:
        """`ranges` with neighbours in one row."""

    @property
    def vma_keys(self) -> Sequence[str]:
        """For each row of `ranges` what must not change from round to round: flags, file, offset, protection."""

    def pinned(self) -> str | None:
        """Why the kernel may write to pages from now on without a dirty bit: the next round's reason to vouch for
        none of them."""

    def pinned_besides(self) -> str | None:
        """The same, of what takes longer to find; asked when the conclusion is, once."""

    def remote(self) -> LiveTask:
        """A thread of the task for remote syscalls; made on first use."""


Conclusion = Callable[[], tuple[U64 | None, str | None, bytes]]
"""Gives what `DirtyTracker.collect` gives; asked once, when the tree may run on already."""


Seen = Callable[[], tuple[U64, U64]]
"""Gives the populated pages and their pagemap entries, as they were in the freeze."""


class DirtyTracker(Protocol):
    """Finds the pages written since the last round, and re-arms. One object for each address space and round."""

    name: str
    seen: Seen | None
    """Where the tracker has read all pagemap entries in the freeze."""

    def look(self, mm: MmAccess, state: bytes | None, *, arm: bool = True) -> Conclusion:
        """`collect` in two steps: what needs the freeze now, the rest when the answer is asked for.

        Without `arm`, for a task that is about to end, nothing is armed or cleared, what the last round armed stays
        as it was, and the new state is worth nothing.
        """

    def collect(self, mm: MmAccess, state: bytes | None) -> tuple[U64 | None, str | None, bytes]:
        """Called in the freeze. `state` is what the last round's `collect` gave for this mm (None: no last round).

        Gives (clean, reason, new_state): `clean` holds the page numbers' runs, shape (n, 2) start and end page,
        that the tracker vouches for as unchanged since the last round; None, with the reason, when nothing can be
        vouched for. Tracking is armed for the next round in any case.
        """

    def settle(self) -> bytes | None:
        """Called once, before the image is committed and after the thaw if possible: what need not be done frozen.

        Gives the new state if that changes what `look` told; that may have been one after which a round is a full one.
        """

    def discard(self, reason: str) -> None:
        """The round failed: what was armed is worth nothing to the next one."""


# ---------------------------------------------------------------- image side


class SpaceWriter(Protocol):
    """The pages of one space (an mm or a shared memory object) on their way into an image.

    Made with its runs: DATA (bytes will follow), PARENT, ZERO, GUARD. The writer may turn DATA into ZERO, XOR or
    PARENT by looking at the bytes.
    """

    def put(self, pages: U64, data: memoryview) -> None:
        """Bytes of DATA pages: `pages` shape (n,), ascending; `data` n * 4096 bytes, not kept after the return."""

    def pull(self, pages: U64, load: Callable[[U8], npt.NDArray[np.bool_] | None]) -> None:
        """As `put`, but `load` is called for the bytes, on another thread and perhaps later: it fills an array of
        shape (n, 4096) and says which pages could be read (None: all); the others are dropped. At most 256 pages."""

    def settle(self) -> None:
        """Until every `load` has been called and its pages are on their way."""

    def drop(self, pages: U64) -> None:
        """These DATA pages could not be read (the running task unmapped them): absent in this image."""

    def close(self) -> None: ...


class RoundWriter(Protocol):
    """One image being written; nothing is visible in the chain before `commit`."""

    @property
    def header(self) -> ImageHeader: ...

    def add(self, record: Record) -> None: ...

    def space(self, key: str, runs: PageRuns, base: str = "") -> SpaceWriter:
        """`base`: the space of the parent image that this one is compared with, when that has another key."""

    def commit(self, statistics: Statistics) -> Statistics:
        """Make the image durable and part of the chain; gives the statistics with the page and byte counts in."""

    def abort(self) -> None:
        """Take back everything; safe to call at any time, also twice."""


class ImageView(Protocol):
    """One image together with its ancestors: everything a restore needs."""

    @property
    def header(self) -> ImageHeader: ...

    def records(self, name: str) -> Sequence[Record]: ...

    def spaces(self) -> Sequence[str]: ...

    def runs(self, key: str) -> PageRuns:
        """The whole populated map, resolved: DATA, ZERO and GUARD only. Empty for an unknown space."""

    def read(self, key: str) -> Iterator[tuple[U64, memoryview]]:
        """Every DATA page once: (page numbers, shape (n,), and n * 4096 bytes), verified; buffers are reused."""

    def scatter(self, key: str, take: Callable[[U64, memoryview], None]) -> Iterator[int]:
        """As `read`, but in any order, and `take` is called with the pages and their bytes on several threads at a
        time. Gives the number of pages done, again and again; when it ends, or is closed, no `take` runs any more."""

    def read_pages(self, key: str, pages: U64) -> bytes:
        """The bytes of some DATA or ZERO pages, in that order."""
