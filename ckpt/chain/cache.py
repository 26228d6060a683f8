"""The most recently used frames, decoded; each is decoded once even when several threads want it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future

from ckpt.records.runs import U8

Key = tuple[int, int]  # layer, frame


class FrameCache:
    """At most `limit` bytes of decoded frames."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._size = 0
        self._lock = threading.Lock()
        self._frames: OrderedDict[Key, U8] = OrderedDict()
        self._coming: dict[Key, Future[U8]] = {}
        self.decoded = 0

    def clear(self) -> None:
        """Give the memory back."""
        with self._lock:
            self._frames.clear()
            self._size = 0

    def get(self, key: Key, decode: Callable[[], U8]) -> U8:
        """The frame from memory, from another thread that is at it, or decoded here.

        A thread waits only for frames of older layers than the one that it decodes, so none waits in a ring.
        """
        with self._lock:
            frame = self._frames.get(key)
            if frame is not None:
                self._frames.move_to_end(key)
                return frame
            coming = self._coming.get(key)
            if coming is None:
                mine: Future[U8] = Future()
                self._coming[key] = mine
        if coming is not None:
            return coming.result()
        try:
            frame = decode()
        except BaseException as error:
            with self._lock:
                del self._coming[key]
            mine.set_exception(error)
            raise
        with self._lock:
            del self._coming[key]
            self._frames[key] = frame
            self._size += frame.nbytes
            self.decoded += 1
            while self._size > self._limit and len(self._frames) > 1:
                _, old = self._frames.popitem(last=False)
                self._size -= old.nbytes
        mine.set_result(frame)
        return frame
