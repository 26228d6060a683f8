"""One round being written into a chain."""

from __future__ import annotations

import dataclasses
from typing import Protocol

from ckpt.chain.layers import View
from ckpt.errors import ImageWriteError
from ckpt.image.writer import ImageWriter, SpaceBuilder
from ckpt.records.base import Record
from ckpt.records.image import ImageHeader, Statistics
from ckpt.records.runs import PageRuns


class Resolver(Protocol):
    """The chain, as far as a round needs it."""

    def resolve(self, image_id: bytes, states: dict[str, bytes]) -> None: ...


class Round:
    """A RoundWriter. `parent` is the view that a delta stands on, None in a full round."""

    def __init__(self, chain: Resolver, writer: ImageWriter, parent: View | None) -> None:
        self._chain = chain
        self._writer = writer
        self._states: dict[str, bytes] = {}
        self.parent = parent

    @property
    def header(self) -> ImageHeader:
        return self._writer.header

    def add(self, record: Record) -> None:
        self._writer.add(record)

    def space(self, key: str, runs: PageRuns, base: str = "") -> SpaceBuilder:
        return self._writer.space(key, runs, base)

    def track(self, states: dict[str, bytes]) -> None:
        """The trackers' states after this round; the commit resolves the journal's intent with them."""
        self._states = dict(states)

    def commit(self, statistics: Statistics) -> Statistics:
        try:
            self._writer.drain()
            written = dataclasses.replace(statistics, memwrite_time=self._writer.write_ns // 1000)
            result = self._writer.finish(written)
        except BaseException:
            self.abort()
            raise
        self._close()
        try:
            self._chain.resolve(self.header.image_id, self._states)
        except ImageWriteError:
            # The image is durable. The intent stays pending, so the next round is a full one and says why.
            pass
        return result

    def abort(self) -> None:
        self._writer.abort()
        self._close()

    def _close(self) -> None:
        if self.parent is not None:
            self.parent.close()

    def __enter__(self) -> Round:
        return self

    def __exit__(self, *_: object) -> None:
        self.abort()
