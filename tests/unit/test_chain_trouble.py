"""Rounds of a chain that are cut short: a writer that is killed, no room, errors of the disk."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ckpt.chain import Chain, verify
from ckpt.errors import ImageError, ImageWriteError
from ckpt.records.image import Statistics
from tests.support.images import TASK, begin, grow_chain, records

BUSY = """
import sys
from tests.support.images import grow_chain
from ckpt.chain import Chain
import tests.support.images as images
real = images.begin
def told(*args, **options):
    print("round", flush=True)
    return real(*args, **options)
images.begin = told
grow_chain(sys.argv[1], 200)
"""


@pytest.mark.parametrize("rounds", [1, 2, 5, 9])
def test_a_killed_writer_leaves_a_whole_chain(tmp_path: Path, rounds: int) -> None:
    root = Path(__file__).parents[2]
    writer = subprocess.Popen(
        [sys.executable, "-c", BUSY, str(tmp_path / "c")],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    try:
        assert writer.stdout is not None
        for _ in range(rounds):
            assert writer.stdout.readline() == b"round\n"
    finally:
        writer.kill()
        writer.wait()
        if writer.stdout is not None:
            writer.stdout.close()
    with Chain.open(tmp_path / "c", write=True) as chain:
        done = chain.rounds()
        assert not list((tmp_path / "c").glob(".*"))
        assert rounds - 1 <= len(done)
        reason = chain.full_reason(**TASK)  # type: ignore[arg-type]
        journal = chain.journal()
        # The kill may have hit after a round's end and before the next one's intent.
        assert reason is None or journal is None or journal.pending or not done
    if done:
        assert verify(tmp_path / "c").ok


LIMITED = """
import resource, sys
import numpy as np
from ckpt.chain import Chain
from ckpt.errors import ImageWriteError
from ckpt.records.image import Statistics
from ckpt.records.runs import DATA, PageRuns
from tests.support.images import begin, numbers
chain = Chain.open(sys.argv[1], create=True)
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
round_ = begin(chain, "first round")
pages = np.arange(1024, dtype=np.uint64)
try:
    space = round_.space("s", PageRuns.from_pages(pages, DATA))
    space.put(pages, np.random.default_rng(1).integers(0, 256, 1024 * 4096, dtype=np.uint8).data)
    space.close()
    round_.commit(Statistics())
except ImageWriteError as error:
    print(error.hint)
    round_.abort()
    sys.exit(error.exit_code)
"""


def test_no_room_leaves_nothing_behind(tmp_path: Path) -> None:
    grow_chain(tmp_path / "c", 1)
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path / "c")],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert (done.returncode, done.stderr) == (ImageWriteError.exit_code, "")
    assert "ulimit -f" in done.stdout
    assert sorted(path.name for path in (tmp_path / "c").iterdir()) == ["0001.ckpt", "journal", "lock"]


@pytest.mark.parametrize("failing", [1, 3, 6, 9])
def test_an_error_at_any_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int) -> None:
    import ckpt.image.sinks as sinks

    grow_chain(tmp_path / "c", 1)
    real, calls = sinks.write_all, 0

    def flaky(fd: int, data: object) -> None:
        nonlocal calls
        calls += 1
        if calls >= failing:
            raise OSError(28, "No space left on device")
        real(fd, data)  # type: ignore[arg-type]

    monkeypatch.setattr(sinks, "write_all", flaky)
    with Chain.open(tmp_path / "c", write=True) as chain:
        with pytest.raises(ImageWriteError, match="No space left on device; nothing was kept"):
            with begin(chain) as round_:
                for item in records():
                    round_.add(item)
                round_.commit(Statistics())
        assert [info.header.round for info in chain.rounds()] == [1]
    assert not list((tmp_path / "c").glob(".*.tmp"))


@pytest.mark.parametrize("call", ["fsync", "rename", "sync_directory"])
def test_an_image_that_is_not_durable_is_no_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    import ckpt.image.sinks as sinks

    grow_chain(tmp_path / "c", 1)

    def broken(*_: object) -> None:
        raise OSError(5, "Input/output error")

    with Chain.open(tmp_path / "c", write=True) as chain:
        round_ = begin(chain)
        with monkeypatch.context() as patched:
            target = {
                "fsync": (sinks.os, "fsync"),
                "rename": (Path, "rename"),
                "sync_directory": (sinks, call),
            }[call]
            patched.setattr(*target, broken)
            with pytest.raises(ImageWriteError, match="Input/output error"):
                round_.commit(Statistics())
        assert [info.header.round for info in chain.rounds()] == [1]
    assert not list((tmp_path / "c").glob(".*.tmp"))


def test_a_fifo_among_the_images_does_not_make_us_wait(tmp_path: Path) -> None:
    grow_chain(tmp_path / "c", 1)
    os.mkfifo(tmp_path / "c" / "0002.ckpt")
    with pytest.raises(ImageError):
        Chain.open(tmp_path / "c").rounds()
