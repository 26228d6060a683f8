"""Rounds of a chain: layers read back byte for byte, the journal, the lock, and what goes wrong."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest

import ckpt.chain.journal as journal_module
from ckpt.chain import Chain, view
from ckpt.errors import ChainBusy, ChainError, ImageError, MissingParent, WrongChain
from ckpt.pages.hashes import hash_pages
from ckpt.records.image import Statistics
from ckpt.records.runs import DATA, GUARD, PARENT, ZERO, PageRuns
from tests.support.images import TASK, begin, grow_chain, memory_of, numbers, page, records


@pytest.mark.parametrize("shadow", ["image", "off"])
@pytest.mark.parametrize("hashed", [False, True])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_every_round_reads_back(tmp_path: Path, shadow: str, hashed: bool, seed: int) -> None:
    history = grow_chain(tmp_path / "c", 6, seed, shadow=shadow, hash_pages=hashed)
    for number, expected in enumerate(history, 1):
        with view(tmp_path / "c", number) as image:
            assert image.header.round == number
            assert memory_of(image, "mm:41") == expected
            found, hashes = image.hashes("mm:41")
            assert found.tolist() == sorted(expected)
            joined = b"".join(expected[n] for n in sorted(expected))
            assert np.array_equal(hashes, hash_pages(joined, image.hash_seed))
            assert image.read_pages("mm:41", found[::-1]) == b"".join(
                expected[n] for n in sorted(expected, reverse=True)
            )


def test_what_stands_in_the_directory(tmp_path: Path) -> None:
    grow_chain(tmp_path / "c", 3)
    assert (tmp_path / "c").stat().st_mode & 0o777 == 0o700
    images = sorted((tmp_path / "c").glob("*.ckpt"))
    assert [path.name for path in images] == ["0001.ckpt", "0002.ckpt", "0003.ckpt"]
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "c").iterdir()} == {0o600}
    rounds = Chain.open(tmp_path / "c").rounds()
    assert [info.header.round for info in rounds] == [1, 2, 3]
    assert [info.header.parent for info in rounds] == [None, *[i.header.image_id for i in rounds[:2]]]
    assert rounds[0].header.full_reason == "first round"
    assert rounds[1].header.full_reason is None
    assert [info.size for info in rounds] == [path.stat().st_size for path in images]
    assert rounds[1].statistics.pages_skipped_parent > 0


def test_kinds_of_the_resolved_map(tmp_path: Path) -> None:
    with Chain.open(tmp_path / "c", create=True) as chain:
        with begin(chain, "first round") as first:
            kinds = np.array([DATA, ZERO, GUARD, DATA], np.uint8)
            space = first.space("s", PageRuns.from_pages(numbers(1, 2, 3, 4), kinds))
            space.put(numbers(1, 4), np.stack([page(1), np.zeros(4096, np.uint8)]).reshape(-1).data)
            space.close()
            first.commit(Statistics())
        with begin(chain) as second:
            second.space("s", PageRuns.from_pages(numbers(1, 2, 3, 4), PARENT)).close()
            second.commit(Statistics())
        with chain.view() as image:
            runs = image.runs("s")
            assert runs.start.tolist() == [1, 2, 3, 4]
            assert runs.kind.tolist() == [DATA, ZERO, GUARD, ZERO]


def test_a_round_that_is_not_committed_leaves_nothing(tmp_path: Path) -> None:
    grow_chain(tmp_path / "c", 1)
    before = sorted(path.name for path in (tmp_path / "c").iterdir())
    with Chain.open(tmp_path / "c", write=True) as chain:
        with begin(chain) as round_:
            round_.add(records()[0])
        round_.abort()
        assert sorted(path.name for path in (tmp_path / "c").iterdir()) == before
        assert len(chain.rounds()) == 1


def test_leftovers_are_removed_by_the_next_writer(tmp_path: Path) -> None:
    grow_chain(tmp_path / "c", 1)
    left = tmp_path / "c" / ".0002.ckpt.tmp"
    left.write_bytes(b"half")
    Chain.open(tmp_path / "c").rounds()
    assert left.exists()
    Chain.open(tmp_path / "c", write=True).close()
    assert not left.exists()


def test_a_closed_chain_is_free_though_a_copy_of_the_lock_is_about(tmp_path: Path) -> None:
    """A thread of an embedding program starts a process, which for a moment has all descriptors."""
    chain = Chain.open(tmp_path / "c", create=True)
    child = os.fork()
    if child == 0:
        signal.pause()
        os._exit(1)
    try:
        chain.close()
        Chain.open(tmp_path / "c", create=True).close()
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    with Chain.open(tmp_path / "c", create=True):
        with pytest.raises(ChainBusy):
            Chain.open(tmp_path / "c", write=True)
    Chain.open(tmp_path / "c", write=True).close()
    with pytest.raises(ChainError, match="reading only"):
        begin(Chain.open(tmp_path / "c"), "first round")
    with pytest.raises(ChainError, match="no directory"):
        Chain.open(tmp_path / "none")


def test_the_journal(tmp_path: Path) -> None:
    with Chain.open(tmp_path / "c", create=True) as chain:
        assert chain.journal() is None
        assert chain.full_reason(**TASK) == "first round"  # type: ignore[arg-type]
    grow_chain(tmp_path / "c", 2)
    with Chain.open(tmp_path / "c", write=True) as chain:
        journal = chain.journal()
        assert journal is not None and journal.last is not None
        assert not journal.pending and journal.reason is None
        assert journal.last.states == {"41:4242": b"state"}
        assert (journal.last.pid, journal.last.start_time, journal.last.sequence) == (41, 4242, 2)
        assert journal.image_id == chain.rounds()[-1].header.image_id
        assert chain.full_reason(**TASK) is None  # type: ignore[arg-type]
        reason = chain.full_reason(**{**TASK, "tracker": "write-protect"})  # type: ignore[arg-type]
        assert reason == "the last round used the tracker soft-dirty"
        reason = chain.full_reason(**{**TASK, "start_time": 5})  # type: ignore[arg-type]
        assert reason == "the task is not the one of the last round"

        chain.journal_intent(**TASK)  # type: ignore[arg-type]
        begin(chain).abort()
        journal = chain.journal()
        assert journal is not None and journal.pending
    with Chain.open(tmp_path / "c", write=True) as chain:
        reason = chain.full_reason(**TASK)  # type: ignore[arg-type]
        assert reason == journal_module.UNFINISHED
        chain.journal_intent(**TASK)  # type: ignore[arg-type]
        with begin(chain, reason) as round_:
            round_.commit(Statistics())
        assert chain.full_reason(**TASK) is None  # type: ignore[arg-type]
        assert chain.rounds()[-1].header.full_reason == journal_module.UNFINISHED
        (tmp_path / "c" / "0003.ckpt").unlink()
        reason = chain.full_reason(**TASK)  # type: ignore[arg-type]
        assert reason == "the tracker state does not belong to the newest image"


def test_a_damaged_journal_means_a_full_round(tmp_path: Path) -> None:
    grow_chain(tmp_path / "c", 1)
    path = tmp_path / "c" / "journal"
    whole = path.read_bytes()
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        journal = Chain.open(tmp_path / "c").journal()
        assert journal is not None and journal.reason == journal_module.DAMAGED
        path.write_bytes(whole[:at])
        journal = Chain.open(tmp_path / "c").journal()
        assert journal is not None and journal.reason == journal_module.DAMAGED
    assert Chain.open(tmp_path / "c").full_reason(**TASK) == journal_module.DAMAGED  # type: ignore[arg-type]


def test_a_missing_parent(tmp_path: Path) -> None:
    grow_chain(tmp_path / "c", 3)
    (tmp_path / "c" / "0002.ckpt").unlink()
    view(tmp_path / "c", 1).close()
    for path, at in ((tmp_path / "c", None), (tmp_path / "c" / "0003.ckpt", None), (tmp_path / "c", 3)):
        with pytest.raises(MissingParent, match=r"0003\.ckpt needs its parent"):
            view(path, at)
    with pytest.raises(ChainError, match="no round 2"):
        view(tmp_path / "c", 2)
    with Chain.open(tmp_path / "c", write=True) as chain:
        assert chain.full_reason(**TASK) == "an ancestor's image is missing"  # type: ignore[arg-type]
        with pytest.raises(MissingParent):
            begin(chain)
        with begin(chain, "an ancestor's image is missing") as round_:
            round_.commit(Statistics())
    view(tmp_path / "c").close()


def test_a_damaged_image_that_is_not_needed(tmp_path: Path) -> None:
    history = grow_chain(tmp_path / "c", 3)
    for name, good, bad in (("0003.ckpt", (1, 2), (3, None)), ("0001.ckpt", (), (1, 2, 3, None))):
        path = tmp_path / "c" / name
        whole = path.read_bytes()
        path.write_bytes(whole[:-1])
        for at in good:
            with view(tmp_path / "c", at) as image:
                assert memory_of(image, "mm:41") == history[at - 1]
        for at in bad:
            with pytest.raises(ImageError, match=name):
                view(tmp_path / "c", at)
        with pytest.raises(ImageError, match=name):
            Chain.open(tmp_path / "c").rounds()
        path.write_bytes(whole)


def test_a_chain_longer_than_the_files_held_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import ckpt.image.sources as sources

    monkeypatch.setattr(sources, "HELD_OPEN", 0)
    history = grow_chain(tmp_path / "c", 6)
    with view(tmp_path / "c") as image:
        assert memory_of(image, "mm:41") == history[-1]
        (tmp_path / "c" / "0006.ckpt").unlink()
        with pytest.raises(ImageError, match="cannot be read"):
            image.layers[0].stored(0)


def test_an_image_of_another_chain(tmp_path: Path) -> None:
    grow_chain(tmp_path / "a", 2)
    grow_chain(tmp_path / "b", 3)
    os.link(tmp_path / "b" / "0003.ckpt", tmp_path / "a" / "0003.ckpt")
    with pytest.raises(WrongChain, match="another chain"):
        view(tmp_path / "a")
    with pytest.raises(WrongChain):
        Chain.open(tmp_path / "a").rounds()


def test_the_same_round_twice(tmp_path: Path) -> None:
    grow_chain(tmp_path / "c", 1)
    (tmp_path / "c" / "0009.ckpt").write_bytes((tmp_path / "c" / "0001.ckpt").read_bytes())
    with pytest.raises(ChainError, match="are the same round"):
        view(tmp_path / "c")


def test_a_single_file_with_and_without_its_parents(tmp_path: Path) -> None:
    history = grow_chain(tmp_path / "c", 2)
    with view(tmp_path / "c" / "0002.ckpt") as image:
        assert memory_of(image, "mm:41") == history[1]
    alone = tmp_path / "alone.ckpt"
    alone.write_bytes((tmp_path / "c" / "0001.ckpt").read_bytes())
    with view(alone) as image:
        assert memory_of(image, "mm:41") == history[0]
    with pytest.raises(ChainError, match="is round 1, not 2"):
        view(alone, 2)
    with pytest.raises(ChainError, match="there is no"):
        view(tmp_path / "none.ckpt")
    (tmp_path / "text.ckpt").write_text("no image")
    with pytest.raises(ImageError, match="not an image"):
        view(tmp_path / "text.ckpt")


def test_a_damaged_parent_is_not_built_upon(tmp_path: Path) -> None:
    """The delta stores whole what it cannot compare, and stays readable."""
    noise = np.random.default_rng(1).integers(0, 256, (2, 4096), dtype=np.uint8)
    with Chain.open(tmp_path / "c", create=True) as chain:
        with begin(chain, "first round") as first:
            space = first.space("s", PageRuns.from_pages(numbers(1, 2), DATA))
            space.put(numbers(1, 2), noise.reshape(-1).data)
            space.close()
            first.commit(Statistics())
        path = tmp_path / "c" / "0001.ckpt"
        data = bytearray(path.read_bytes())
        data[data.index(noise[0].tobytes()) + 5] ^= 1
        path.write_bytes(bytes(data))
        with begin(chain) as second:
            space = second.space("s", PageRuns.from_pages(numbers(1, 2), DATA))
            space.put(numbers(1, 2), noise.reshape(-1).data)
            space.close()
            statistics = second.commit(Statistics())
        assert statistics.pages_written == 2
        with chain.view() as image:
            assert image.read_pages("s", numbers(1, 2)) == noise.tobytes()
