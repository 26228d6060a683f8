"""A file that appears whole or not at all, however large, and that is sent to the disk while it grows."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from ckpt.errors import ImageWriteError
from ckpt.image import sinks
from ckpt.image.sinks import FLUSH, FileSink

PIECE = os.urandom(1 << 20)


def open_files() -> set[str]:
    return {os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if int(fd) > 2 and _is_open(fd)}


def _is_open(fd: str) -> bool:
    return Path(f"/proc/self/fd/{fd}").exists()


def test_a_large_file_is_published_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr(sinks.os, "posix_fadvise", lambda fd, begin, size, advice: sent.append((begin, size)))
    sink = FileSink(tmp_path / "image")
    for _ in range(20):
        sink.write(PIECE)
        assert not sink.path.exists()
    sink.finish()
    assert sink.path.read_bytes() == PIECE * 20
    assert [path.name for path in tmp_path.iterdir()] == ["image"]
    assert sent == [(0, 8 << 20), (8 << 20, 8 << 20)]


def test_nothing_stays_of_a_large_file_that_is_taken_back(tmp_path: Path) -> None:
    sink = FileSink(tmp_path / "image")
    for _ in range(20):
        sink.write(PIECE)
    sink.abort()
    sink.abort()
    assert list(tmp_path.iterdir()) == []
    assert not any(str(tmp_path) in name for name in open_files())
    with pytest.raises(ImageWriteError):
        sink.write(PIECE)


def test_an_advice_that_fails_does_no_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(sinks.os, "posix_fadvise", refuse)
    sink = FileSink(tmp_path / "image")
    for _ in range(9):
        sink.write(PIECE)
    sink.finish()
    assert sink.path.stat().st_size == 9 << 20


def test_without_a_thread_for_it_nothing_is_flushed_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", none)
    sink = FileSink(tmp_path / "x")
    data = bytes(range(256)) * (FLUSH // 256)
    sink.write(data)
    sink.write(data)
    sink.finish()
    assert (tmp_path / "x").read_bytes() == data * 2
