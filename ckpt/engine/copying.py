"""Copying pages out of tasks: process_vm_readv in large pieces into one reused buffer, /proc/PID/mem for the rest."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np

from ckpt.errors import KernelError
from ckpt.kernel import memory
from ckpt.kernel.memory import IOV_MAX, Memory
from ckpt.records.runs import PAGE_SIZE, U64, PageRuns, expand

BUFFER_PAGES = 1024
_PAGE = np.uint64(PAGE_SIZE)
_GONE = (errno.ENOENT, errno.ESRCH)


class Sink(Protocol):
    """Where copied pages go."""

    def put(self, pages: U64, data: memoryview) -> None: ...

    def drop(self, pages: U64) -> None: ...


class Copier:
    """One buffer, touched before the freeze, through which every page goes."""

    def __init__(self) -> None:
        self._buffer = np.ones(BUFFER_PAGES * PAGE_SIZE, np.uint8)
        self._view = self._buffer.data

    def copy_task(self, pid: int, runs: PageRuns, sink: Sink, advance: Callable[[int], None]) -> None:
        """The pages of `runs` from a task's memory; what is gone meanwhile is dropped, be it the whole task."""
        try:
            slow = Memory(pid)
        except KernelError as error:
            if error.errno not in _GONE:
                raise
            sink.drop(runs.pages())
            return
        with slow:
            for pages, start, length in _pieces(runs):
                size = len(pages) * PAGE_SIZE
                try:
                    done = memory.readv(pid, start, length, self._buffer.ctypes.data)
                except KernelError as error:
                    if error.errno not in _GONE:
                        raise
                    done = 0
                if done == size:
                    sink.put(pages, self._view[:size])
                else:
                    self._one_by_one(slow, pages, sink)
                advance(len(pages))

    def _one_by_one(self, slow: Memory, pages: U64, sink: Sink) -> None:
        there = np.zeros(len(pages), np.bool_)
        at = 0
        for i, page in enumerate(pages.tolist()):
            target = self._view[at : at + PAGE_SIZE]
            if slow.read_into(page * PAGE_SIZE, target) == PAGE_SIZE:
                there[i] = True
                at += PAGE_SIZE
        if at:
            sink.put(pages[there], self._view[:at])
        if not there.all():
            sink.drop(pages[~there])

    def copy_file(self, fd: int, runs: PageRuns, sink: Sink, advance: Callable[[int], None]) -> None:
        """The pages of `runs` of a shared memory object, from a descriptor of it."""
        for pages, start, length in _pieces(runs):
            at = 0
            for offset, size in zip(start.tolist(), length.tolist(), strict=True):
                piece = self._view[at : at + size]
                got = os.preadv(fd, [piece], offset)
                if got < size:  # beyond the end of the object: the rest of the last page
                    self._buffer[at + got : at + size] = 0
                at += size
            sink.put(pages, self._view[:at])
            advance(len(pages))


def _pieces(runs: PageRuns) -> Iterator[tuple[U64, U64, U64]]:
    """(pages, starts, lengths) in bytes, each at most BUFFER_PAGES pages and IOV_MAX pieces."""
    start, count = [], []
    total = 0
    for first, nr in zip(runs.start.tolist(), runs.nr_pages.tolist(), strict=True):
        while nr:
            take = min(nr, BUFFER_PAGES - total)
            start.append(first)
            count.append(take)
            total += take
            first += take
            nr -= take
            if total == BUFFER_PAGES or len(start) == IOV_MAX:
                yield _columns(start, count)
                start, count, total = [], [], 0
    if total:
        yield _columns(start, count)


def _columns(start: list[int], count: list[int]) -> tuple[U64, U64, U64]:
    starts, counts = np.array(start, np.uint64), np.array(count, np.uint64)
    return expand(starts, counts), starts * _PAGE, counts * _PAGE


class Kept:
    """A Sink that keeps small dumps in memory, so that the tasks need not wait for the image."""

    def __init__(self) -> None:
        self._parts: list[tuple[U64, bytes]] = []
        self._dropped: list[U64] = []

    def put(self, pages: U64, data: memoryview) -> None:
        self._parts.append((pages, bytes(data)))

    def drop(self, pages: U64) -> None:
        self._dropped.append(pages)

    def replay(self, sink: Sink) -> None:
        """Hand everything on."""
        for pages, data in self._parts:
            sink.put(pages, memoryview(data))
        for pages in self._dropped:
            sink.drop(pages)
        self._parts.clear()
