"""The contents of a pipe whose buffers are larger than a page, cut into as many that can be made."""

from __future__ import annotations

import random

import pytest

from ckpt.state.files import pipedata

PAGE = 4096


@pytest.mark.parametrize("seed", range(20))
def test_as_many_pieces_as_there_were_buffers(seed: int) -> None:
    chance = random.Random(seed)
    sizes = [chance.randrange(1, 8 * PAGE + 1) for _ in range(chance.randrange(2, 17))]
    data = chance.randbytes(sum(sizes))
    pieces = pipedata._cut(data, len(sizes))
    assert b"".join(pieces) == data
    assert all(0 < len(piece) <= PAGE or len(piece) in (2 * PAGE, 4 * PAGE, 8 * PAGE) for piece in pieces)
    assert len(pieces) == len(sizes) or sum(sizes) > (len(sizes) - 3) * 8 * PAGE


def test_no_more_pieces_than_bytes() -> None:
    assert pipedata._cut(b"abc", 5) == [b"a", b"b", b"c"]
