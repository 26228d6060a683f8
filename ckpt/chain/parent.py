"""What pages held in the parent image, for a new round that stores differences; read only where that pays.

Looking up one page costs the decompression of its whole frame, so scattered pages are dear: a frame of which little
is asked for is left alone, and those pages are stored as they are. A round may look up a few such frames all the
same, so that the images of an almost idle task stay as small as they can be.
"""

from __future__ import annotations

import threading

import numpy as np
import numpy.typing as npt

from ckpt.chain.layers import View
from ckpt.errors import ImageError
from ckpt.pages.hashes import HASH_SIZE
from ckpt.records.runs import DATA, PAGE_SIZE, U8, U64, XOR, distinct

Mask = npt.NDArray[np.bool_]

# A frame is looked up when at least one in this many of its pages is asked for.
SPARSE = 8
# Frames that a round may look up for fewer pages: 64 MiB, some tens of milliseconds.
ALLOWANCE = 256

SHADOWS = ("auto", "image", "off")


class ParentPages:
    """A PageBase on the newest image of a chain. With `thrifty` frames are left alone as said above."""

    def __init__(self, view: View, *, thrifty: bool = False) -> None:
        self._view = view
        self._thrifty = thrifty
        self._left = ALLOWANCE
        self._lock = threading.Lock()

    def bases(self, key: str, pages: U64) -> tuple[Mask, U8, U8]:
        """See PageBase; a base that cannot be read is not known."""
        view = self._view
        out = np.empty((len(pages), PAGE_SIZE), np.uint8)
        depths = np.zeros(len(pages), np.uint8)
        known = np.zeros(len(pages), np.bool_)
        try:
            if key in view.spaces():
                places = view.places(key, pages)
                known = (places.kind == DATA) | (places.kind == XOR)
                identity = np.where(known, (places.layer << 32) | places.frame, -1)
                if self._thrifty:
                    known &= self._worth(identity)
                if known.all():
                    view.fill(key, pages, out)
                else:
                    out[known] = view.fill(key, pages[known], np.empty((int(known.sum()), PAGE_SIZE), np.uint8))
                for layer in distinct(places.layer[known]).tolist():
                    mine = known & (places.layer == layer)
                    depths[mine] = view.layers[layer].index.depths[places.frame[mine]]
        except ImageError:
            # A damaged ancestor must not spread: the round stores these pages whole.
            known[:] = False
        out[~known] = 0
        return known, out, depths

    def _worth(self, identity: npt.NDArray[np.int64]) -> Mask:
        """For each page whether its frame is worth the decompression; -1 stands for no frame."""
        frames, inverse, count = np.unique(identity, return_inverse=True, return_counts=True)
        sizes = np.array([self._view.frame_size(one >> 32, one & 0xFFFFFFFF) if one >= 0 else 0 for one in frames])
        worth = count * (SPARSE * PAGE_SIZE) >= sizes
        dear = np.flatnonzero(~worth)
        with self._lock:
            granted = min(self._left, len(dear))
            self._left -= granted
        worth[dear[:granted]] = True
        result: Mask = worth[inverse]
        return result

    def page_hashes(self, key: str, pages: U64) -> tuple[Mask, U8]:
        """See PageBase; nothing is read for pages whose hash no image holds."""
        out = np.zeros((len(pages), HASH_SIZE), np.uint8)
        known = np.zeros(len(pages), np.bool_)
        try:
            if key in self._view.spaces():
                places = self._view.places(key, pages)
                stored = (places.kind == DATA) | (places.kind == XOR)
                for layer in distinct(places.layer[stored]).tolist():
                    name = self._view.keys(key)[layer]
                    column = self._view.hash_column(layer, name)
                    if column is not None:
                        mine = stored & (places.layer == layer)
                        out[mine] = column[self._view.layers[layer].maps[name].rank(pages[mine])]
                        known |= mine
        except ImageError:
            known[:] = False
        return known, out
