"""Zero test and XOR of many pages at once."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from ckpt.records.runs import PAGE_SIZE, U8

Buffer: TypeAlias = bytes | bytearray | memoryview
Mask: TypeAlias = npt.NDArray[np.bool_]


def as_pages(data: Buffer) -> U8:
    """The buffer as an array of shape (n, 4096) without a copy; its size must be a multiple of 4096."""
    flat: U8 = np.frombuffer(data, np.uint8)
    if len(flat) % PAGE_SIZE:
        raise ValueError(f"{len(flat)} bytes are not whole pages")
    return flat.reshape(-1, PAGE_SIZE)


def zero_pages(pages: U8) -> Mask:
    """Which of the pages, shape (n, 4096) and contiguous, hold only zeros; shape (n,)."""
    words = pages.view(np.uint64)
    result: Mask = words[:, 0] == 0
    # Most pages that are not zero show it in their first word: look at the whole only where it does not.
    doubt = np.flatnonzero(result)
    if len(doubt):
        rest = words if len(doubt) == len(words) else words[doubt]
        result[doubt] = ~rest.any(axis=1)
    return result


def xor_into(target: U8, other: U8) -> None:
    """XOR `other` into `target`, in place; both contiguous, of the same shape."""
    words = target.view(np.uint64)
    np.bitwise_xor(words, other.view(np.uint64), out=words)
