"""Copying pages out of tasks: process_vm_readv in large pieces, else /proc/PID/mem; on the sink's threads."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from functools import cache, partial
from itertools import pairwise
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ckpt.errors import KernelError, TaskError
from ckpt.kernel import features, memory, procfs
from ckpt.kernel.memory import Memory
from ckpt.kernel.tail import read_tail
from ckpt.records.runs import PAGE_SIZE, U8, U64, PageRuns, distinct, expand
from ckpt.records.seams import SpaceWriter

UNIT_PAGES = 256  # 1 MiB: what a core's cache holds while the pages are looked at and compressed
_BLOCK = 4096  # pages: 16 MiB
_PAGE = np.uint64(PAGE_SIZE)
_GONE = (errno.ENOENT, errno.ESRCH)

Mask = npt.NDArray[np.bool_]


class Sink(Protocol):
    """Where copied pages go."""

    def pull(self, pages: U64, load: Callable[[U8], Mask | None]) -> None: ...

    def drop(self, pages: U64) -> None: ...


def copy_task(
    pid: int, runs: PageRuns, sink: Sink, advance: Callable[[int], None], *, shared: bool = False, owner: int = 0
) -> None:
    """The pages of `runs` from a task's memory; what is gone meanwhile is dropped, be it the whole task.

    `owner`: the task that the memory, which stands still, is that of; a page that cannot be read is a TaskError then.

    As with `copy_file` the pages may be read later, until the sink is settled. `shared`: other tasks may have the
    pages too, copy-on-write. process_vm_readv pins what it reads, for which the kernel would first give this task
    a copy of each; /proc/PID/mem does not.
    """
    for block in _blocks(runs) if shared else (runs,):
        for pages, start, length in _pieces(block):
            sink.pull(pages, partial(_load, pid, start, length, shared, owner))
            advance(len(pages))


def copy_file(fd: int, runs: PageRuns, sink: Sink, advance: Callable[[int], None]) -> None:
    """The pages of `runs` of a shared memory object, from a descriptor of it."""
    for pages, start, length in _pieces(runs):
        sink.pull(pages, partial(_load_file, fd, start, length))
        advance(len(pages))


def _load(pid: int, start: U64, length: U64, shared: bool, owner: int, out: U8) -> Mask | None:
    try:
        done = 0 if shared else memory.readv(pid, start, length, out.ctypes.data)
        if done == out.nbytes:
            return None
        with Memory(pid) as slow:
            there = _load_slowly(slow, start, length, out, done)
        if owner and not there.all() and not _hides_guards():
            _refuse(owner, pid, int(expand(start // _PAGE, length // _PAGE)[~there][0]) * PAGE_SIZE)
        return None if there.all() else there
    except KernelError as error:
        if error.errno not in _GONE:
            raise
        return np.zeros(len(out), np.bool_)


@cache
def _hides_guards() -> bool:
    """Whether guard pages look here like pages that are swapped out (Linux 6.13 and 6.14)."""
    return features.probe("madv-guard").available and not features.probe("pagemap-scan-guard").available


def _refuse(owner: int, pid: int, address: int) -> None:
    """Unless the memory is gone altogether, of which the caller hears in another way."""
    if procfs.maps_text(pid):
        raise TaskError(
            f"page {address:#x} of task {owner} cannot be read: the memory has failed there, or was poisoned "
            "(MADV_HWPOISON, UFFDIO_POISON)",
            hint="let the task unmap it; what it held is lost",
        )


def _load_slowly(slow: Memory, start: U64, length: U64, out: U8, done: int) -> Mask:
    """Through /proc/PID/mem, which also reads what the protection forbids, from byte `done` of `out` on."""
    there = np.ones(len(out), np.bool_)
    view = out.reshape(-1).data
    at = 0
    for address, size in zip(start.tolist(), length.tolist(), strict=True):
        if at + size > done and slow.read_into(address, view[at : at + size]) != size:
            for page in range(0, size, PAGE_SIZE):
                piece = view[at + page : at + page + PAGE_SIZE]
                there[(at + page) // PAGE_SIZE] = slow.read_into(address + page, piece) == PAGE_SIZE
        at += size
    return there


def _load_file(fd: int, start: U64, length: U64, out: U8) -> None:
    view = out.reshape(-1).data
    at = 0
    for offset, size in zip(start.tolist(), length.tolist(), strict=True):
        got = os.preadv(fd, [view[at : at + size]], offset)
        if got < size:  # beyond the end of the object
            out.reshape(-1)[at + got : at + size] = 0
            if rest := -got % PAGE_SIZE:
                read_tail(fd, offset + got, out.reshape(-1)[at + got : at + got + rest])
        at += size


def _pieces(runs: PageRuns) -> Iterator[tuple[U64, U64, U64]]:
    """(pages, starts, lengths) in bytes, each of UNIT_PAGES pages but for the last."""
    if not runs.total:
        return
    ends = np.cumsum(runs.nr_pages)
    units = np.arange(UNIT_PAGES, int(ends[-1]), UNIT_PAGES, dtype=np.uint64)
    edges = distinct(np.concatenate([ends, units]))  # ranks at which a piece ends
    begins = np.concatenate([np.zeros(1, np.uint64), edges[:-1]])
    row = np.searchsorted(ends, begins, "right")
    start = runs.start[row] + begins - (ends[row] - runs.nr_pages[row])
    count = edges - begins
    cut = np.searchsorted(begins, units).tolist()
    for first, last in zip([0, *cut], [*cut, len(start)], strict=True):
        starts, counts = start[first:last], count[first:last]
        yield expand(starts, counts), starts * _PAGE, counts * _PAGE


def _blocks(runs: PageRuns) -> Iterator[PageRuns]:
    """The runs of each _BLOCK of addresses: a page more or less in one task shifts no frame beyond its block, so that
    the frames of forked tasks stay alike."""
    block, stop = np.uint64(_BLOCK), runs.start + runs.nr_pages
    first = runs.start // block
    count = ((stop - np.uint64(1)) // block - first + np.uint64(1)).astype(np.int64)
    row = np.repeat(np.arange(len(count)), count)
    number = first[row] + (np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)).astype(np.uint64)
    start = np.maximum(runs.start[row], number * block)
    nr_pages = np.minimum(stop[row], (number + np.uint64(1)) * block) - start
    edges = [0, *(np.flatnonzero(np.diff(number)) + 1).tolist(), len(row)]
    for begin, end in pairwise(edges):
        if begin < end:
            yield PageRuns(start[begin:end], nr_pages[begin:end], runs.kind[row[begin:end]])


class Arena:
    """Room for pages that are kept, touched before the freeze: the first touch costs more than the copy."""

    PAGES = (32 << 20) // PAGE_SIZE

    def __init__(self) -> None:
        self._room = np.ones((self.PAGES, PAGE_SIZE), np.uint8)
        self._used = 0

    def take(self, nr_pages: int) -> U8:
        """An array of shape (n, 4096), of fresh memory when the room is used up."""
        if self._used + nr_pages > self.PAGES:
            return np.empty((nr_pages, PAGE_SIZE), np.uint8)
        self._used += nr_pages
        return self._room[self._used - nr_pages : self._used]


class Kept:
    """A Sink that keeps pages in memory, so that the tasks need not wait for the image."""

    def __init__(self, arena: Arena) -> None:
        self._arena = arena
        self._parts: list[tuple[U64, U8]] = []
        self._dropped: list[U64] = []

    def pull(self, pages: U64, load: Callable[[U8], Mask | None]) -> None:
        data = self._arena.take(len(pages))
        there = load(data)
        if there is None:
            self._parts.append((pages, data))
        else:
            self._parts.append((pages[there], data[there]))
            self._dropped.append(pages[~there])

    def drop(self, pages: U64) -> None:
        self._dropped.append(pages)

    def replay(self, sink: SpaceWriter) -> None:
        """Hand everything on, once."""
        for pages, data in self._parts:
            sink.put(pages, data.reshape(-1).data)
        for pages in self._dropped:
            sink.drop(pages)
        self._parts.clear()
