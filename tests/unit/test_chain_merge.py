"""Merge gives the same bytes in one image; verify finds what is broken."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from ckpt.chain import Chain, merge, verify, view
from ckpt.errors import ChainError, ImageWriteError
from ckpt.records.image import Statistics
from ckpt.records.runs import DATA, GUARD, PARENT, PageRuns
from tests.support.images import begin, grow_chain, memory_of, numbers, records


@pytest.mark.parametrize("name", ["merged", "merged.ckpt"])
@pytest.mark.parametrize("seed", [4, 5])
def test_a_merged_chain_reads_the_same(tmp_path: Path, name: str, seed: int) -> None:
    history = grow_chain(tmp_path / "c", 5, seed)
    before = {path: path.read_bytes() for path in (tmp_path / "c").iterdir()}
    calls: list[tuple[int, int]] = []
    result = merge(tmp_path / "c", tmp_path / name, progress=lambda done, total: calls.append((done, total)))
    assert result.images == 5
    assert calls and calls[-1][0] == calls[-1][1]
    assert {path: path.read_bytes() for path in (tmp_path / "c").iterdir()} == before
    with view(tmp_path / "c") as chain, view(tmp_path / name) as merged:
        assert (merged.header.kind, merged.header.parent, merged.header.round) == ("merged", None, 1)
        assert merged.header.root_pid == chain.header.root_pid
        assert memory_of(merged, "mm:41") == history[-1]
        assert merged.runs("mm:41").of(GUARD).pages().tolist() == chain.runs("mm:41").of(GUARD).pages().tolist()
        for item in records():
            assert list(merged.records(item.RECORD_NAME)) == [item]  # type: ignore[attr-defined]
    report = verify(tmp_path / name)
    assert report.ok and report.images == 1


def test_an_earlier_round_can_be_merged(tmp_path: Path) -> None:
    history = grow_chain(tmp_path / "c", 4)
    merge(tmp_path / "c", tmp_path / "m", at=2)
    with view(tmp_path / "m") as merged:
        assert memory_of(merged, "mm:41") == history[1]


def test_whole_frames_are_copied(tmp_path: Path) -> None:
    every = np.arange(256, dtype=np.uint64)
    content = np.random.default_rng(1).integers(0, 256, (256, 4096), dtype=np.uint8)
    with Chain.open(tmp_path / "c", create=True) as chain:
        with begin(chain, "first round") as first:
            space = first.space("s", PageRuns.from_pages(every, DATA))
            space.put(every, content.reshape(-1).data)
            space.close()
            first.commit(Statistics())
        content[70] = 5
        kinds = np.full(256, PARENT, np.uint8)
        kinds[70] = DATA
        with begin(chain) as second:
            space = second.space("s", PageRuns.from_pages(every, kinds))
            space.put(numbers(70), content[70].data)
            space.close()
            second.commit(Statistics())
    result = merge(tmp_path / "c", tmp_path / "m")
    assert result.frames_copied == 4  # three of the first image, the one of the second
    with view(tmp_path / "m") as merged:
        assert memory_of(merged, "s") == {n: content[n].tobytes() for n in range(256)}
    assert verify(tmp_path / "m").ok


def test_merge_never_works_in_place(tmp_path: Path) -> None:
    grow_chain(tmp_path / "c", 2)
    for output in (tmp_path / "c", tmp_path / "c" / "merged.ckpt"):
        with pytest.raises(ChainError):
            merge(tmp_path / "c", output, force=True)
    merge(tmp_path / "c", tmp_path / "m")
    merge(tmp_path / "c", tmp_path / "m.ckpt")
    for output in (tmp_path / "m", tmp_path / "m.ckpt"):
        with pytest.raises(ChainError):
            merge(tmp_path / "c", output)
        merge(tmp_path / "c", output, force=True)
        assert verify(output).ok
    grow_chain(tmp_path / "other", 2)
    with pytest.raises(ChainError, match="holds images already"):
        merge(tmp_path / "c", tmp_path / "other", force=True)
    empty = tmp_path / "empty"
    empty.mkdir()
    merge(tmp_path / "c", empty)
    assert verify(empty).ok


def test_a_failed_merge_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import ckpt.image.sinks as sinks

    grow_chain(tmp_path / "c", 2)

    def full(fd: int, data: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sinks, "write_all", full)
    for output in (tmp_path / "m", tmp_path / "m.ckpt"):
        with pytest.raises(ImageWriteError, match="No space left"):
            merge(tmp_path / "c", output)
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


def test_nothing_follows_a_merged_image(tmp_path: Path) -> None:
    grow_chain(tmp_path / "c", 2)
    merge(tmp_path / "c", tmp_path / "m")
    with Chain.open(tmp_path / "m", write=True) as chain:
        with pytest.raises(ChainError, match="merged"):
            begin(chain)


def test_verify_names_what_is_damaged(tmp_path: Path) -> None:
    grow_chain(tmp_path / "c", 4)
    report = verify(tmp_path / "c")
    assert report.ok and report.images == 4 and report.frames > 20
    path = tmp_path / "c" / "0002.ckpt"
    whole = path.read_bytes()
    rng = np.random.default_rng(2)
    for at in rng.integers(0, len(whole), 12).tolist():
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :])
        report = verify(tmp_path / "c")
        assert not report.ok and any("0002.ckpt" in problem for problem in report.problems)
    path.write_bytes(whole[:-9])
    assert any("0002.ckpt" in problem for problem in verify(tmp_path / "c").problems)
    path.unlink()
    problems = verify(tmp_path / "c").problems
    assert any("0003.ckpt needs its parent" in problem for problem in problems)
    with pytest.raises(ChainError, match="no image"):
        verify(tmp_path / "nothing.ckpt")


def test_not_into_the_directory_of_another_chain(tmp_path: Path) -> None:
    """It would be taken for one of that chain's images, and no round could follow."""
    grow_chain(tmp_path / "one", 2)
    grow_chain(tmp_path / "two", 2)
    with pytest.raises(ChainError, match="another chain"):
        merge(tmp_path / "one", tmp_path / "two" / "0009.ckpt", force=True)


def test_merge_removes_what_a_killed_merge_left_and_nothing_else(tmp_path: Path) -> None:
    grow_chain(tmp_path / "c", 1)
    building = tmp_path / ".out.tmp"
    building.mkdir()
    (building / ".0001.ckpt.tmp").touch()
    merge(tmp_path / "c", tmp_path / "out")
    assert not building.exists()
    shutil.rmtree(tmp_path / "out")
    building.mkdir()
    (building / "letters").touch()
    with pytest.raises(ChainError, match="in the way"):
        merge(tmp_path / "c", tmp_path / "out")
    assert (building / "letters").exists()
