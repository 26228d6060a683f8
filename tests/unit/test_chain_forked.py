"""The address space of a task that was forked since the parent image: its pages stand on those of its ancestor."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ckpt.chain import Chain, merge, verify, view
from ckpt.chain.layers import View
from ckpt.engine.spaces import Parents
from ckpt.errors import ImageError
from ckpt.image.layout import MAX_XOR_DEPTH
from ckpt.records.image import Statistics
from ckpt.records.runs import DATA, PARENT, U64, XOR
from tests.support.images import Memory, begin, memory_of

PARENT_KEY, CHILD, GRANDCHILD = "mm:41", "mm:42", "mm:43"


def copy_of(memory: Memory, seed: int) -> Memory:
    made = Memory(seed)
    made.content = {number: content.copy() for number, content in memory.content.items()}
    made.guards = set(memory.guards)
    return made


def grow(directory: Path, rounds: int) -> list[dict[str, dict[int, bytes]]]:
    """Each space at each round: one forks a child before round 2, that one a grandchild before round 3."""
    memories = {PARENT_KEY: Memory(7)}
    history = []
    with Chain.open(directory, create=True) as chain:
        for number in range(rounds):
            forked = {1: (CHILD, PARENT_KEY), 2: (GRANDCHILD, CHILD)}.get(number)
            if forked is not None:
                memories[forked[0]] = copy_of(memories[forked[1]], 50 + number)
            dirty = {key: memory.mutate(600 if not number else 60) for key, memory in memories.items()}
            with begin(chain, None if number else "first round", hash_pages=number % 2 == 1) as round_:
                for key, memory in memories.items():
                    new = forked is not None and key == forked[0]
                    base = forked[1] if new and forked is not None else ""
                    memory.write(round_, key, None if new or not number else dirty[key], base)
                round_.commit(Statistics())
            history.append({key: memory.snapshot() for key, memory in memories.items()})
    return history


def scattered(image: View, key: str) -> dict[int, bytes]:
    """What a restore is given of a space."""
    found: dict[int, bytes] = {}

    def take(some: U64, data: memoryview) -> None:
        found.update({n: bytes(data[at * 4096 :][:4096]) for at, n in enumerate(some.tolist())})

    list(image.scatter(key, take))
    return found


@pytest.mark.parametrize("rounds", [2, 3, 6])
def test_every_round_reads_what_was_written(tmp_path: Path, rounds: int) -> None:
    history = grow(tmp_path / "c", rounds)
    for number, memories in enumerate(history):
        with view(tmp_path / "c", number + 1) as image:
            assert set(image.spaces()) == set(memories)
            for key, memory in memories.items():
                assert memory_of(image, key) == memory, (number, key)
                pages, hashes = image.hashes(key)
                assert set(pages.tolist()) == set(memory) and len(hashes) == len(memory)
                assert set(scattered(image, key)) == set(image.runs(key).of(DATA).pages().tolist())
                assert scattered(image, key).items() <= memory.items()
    assert verify(tmp_path / "c").ok
    merge(tmp_path / "c", tmp_path / "m")
    with view(tmp_path / "m") as merged:
        assert {key: memory_of(merged, key) for key in merged.spaces()} == history[-1]


def test_what_is_still_shared_is_not_stored_again(tmp_path: Path) -> None:
    grow(tmp_path / "c", 3)
    with view(tmp_path / "c", 2) as image:
        kinds = image.layers[0].maps[CHILD]
        count = {kind: int(kinds.nr_pages[kinds.kind == kind].sum()) for kind in (DATA, XOR, PARENT)}
        assert count[PARENT] > 150 and count[PARENT] + count[XOR] > 4 * count[DATA], count
        assert image.keys(CHILD) == (CHILD, PARENT_KEY)
    with view(tmp_path / "c", 3) as image:
        assert image.keys(GRANDCHILD) == (GRANDCHILD, CHILD, PARENT_KEY)
        assert image.keys(CHILD) == (CHILD, CHILD, PARENT_KEY)


def test_whose_it_stands_on() -> None:
    parents = Parents({"mm:41": np.empty((0, 2), np.uint64)})
    above = {42: 41, 43: 42, 60: 59}
    assert parents.base("mm:42", above) == parents.base("mm:43", above) == "mm:41"
    assert parents.base("mm:41", above) == parents.base("mm:60", above) == parents.base("shm:1:2", above) == ""
    assert parents.base("mm:50", {50: 51, 51: 50}) == ""


def test_a_base_that_the_parent_does_not_have(tmp_path: Path) -> None:
    """Written by nobody, but a reader must not take it for anything."""
    memory = Memory(3)
    with Chain.open(tmp_path / "c", create=True) as chain:
        memory.mutate(300)
        for number in range(2):
            with begin(chain, None if number else "first round") as round_:
                memory.write(round_, PARENT_KEY, set() if number else None, "mm:1" if number else "")
                round_.commit(Statistics())
    assert not verify(tmp_path / "c").ok
    with view(tmp_path / "c") as image, pytest.raises(ImageError, match="does not have"):
        image.runs(PARENT_KEY)


def test_the_depth_of_xor_is_bounded_across_spaces(tmp_path: Path) -> None:
    grow(tmp_path / "c", MAX_XOR_DEPTH + 4)
    assert verify(tmp_path / "c").ok
