"""Clocks in a time namespace: they stand still from the dump to the restore. Needs root."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ckpt.kernel import features
from tests.support import proc
from tests.support.programs import CLOCKS, telling, until

pytestmark = [
    pytest.mark.root,
    pytest.mark.timeout(300),
    pytest.mark.skipif(os.geteuid() != 0, reason="a time namespace needs root: run as root"),
    pytest.mark.skipif(not features.probe("time-namespace").available, reason="no time namespaces: see ckpt doctor"),
]


@pytest.mark.parametrize("options", [("--timens",), ("--timens", "--pidns")])
def test_clocks_go_on(tmp_path: Path, options: tuple[str, ...]) -> None:
    """The clocks stood still from the dump to the restore, and the exit status comes back."""
    started, said = telling(CLOCKS, tmp_path)
    null = subprocess.DEVNULL
    ckpt = [sys.executable, "-m", "ckpt"]
    subprocess.run([*ckpt, "dump", "-t", str(started.pid), "-D", str(tmp_path / "i")], check=True, stdout=null)
    started.wait()
    before = [float(word) for word in said.read_text().split()]
    said.unlink()
    time.sleep(3)
    restoring = subprocess.Popen([*ckpt, "restore", "-D", str(tmp_path / "i"), *options])
    until(said.exists, "it has told its clocks")
    after = [float(word) for word in said.read_text().split()]
    ours = time.monotonic(), time.clock_gettime(time.CLOCK_BOOTTIME)
    Path(f"{said}.end").touch()
    assert restoring.wait(60) == 9
    for old, new, our in zip(before, after, ours, strict=True):
        assert old <= new < our - 2, (old, new, our)  # whoever is late makes it more


def test_clocks_of_a_time_namespace_go_on_with_the_hosts(tmp_path: Path) -> None:
    """A tree that was restored with --timens, dumped again and restored without a word about clocks."""
    started, said = telling(CLOCKS, tmp_path)
    null = subprocess.DEVNULL
    pid, ckpt = str(started.pid), [sys.executable, "-m", "ckpt"]

    def clocks() -> list[float]:
        """How far the tree's clocks are behind ours: the least of many looks, for whoever is late makes it more."""
        behind = []
        for _ in range(20):
            said.unlink()
            until(said.exists, "it has told its clocks")
            words = said.read_text().split()
            ours = time.monotonic(), time.clock_gettime(time.CLOCK_BOOTTIME)
            behind.append([our - float(word) for our, word in zip(ours, words, strict=True)])
        return [min(column) for column in zip(*behind, strict=True)]

    proc.become_subreaper()
    try:
        subprocess.run([*ckpt, "dump", "-t", pid, "-D", str(tmp_path / "1")], check=True, stdout=null)
        started.wait()
        time.sleep(2)
        subprocess.run([*ckpt, "restore", "-D", str(tmp_path / "1"), "--detach", "--timens"], check=True, stdout=null)
        behind = clocks()
        assert min(behind) > 2, behind
        subprocess.run([*ckpt, "dump", "-t", pid, "-D", str(tmp_path / "2")], check=True, stdout=null)
        os.waitpid(int(pid), 0)
        time.sleep(1)
        restore = [*ckpt, "restore", "-D", str(tmp_path / "2"), "--detach", "--json"]
        answer = json.loads(subprocess.run(restore, check=True, stdout=subprocess.PIPE).stdout)
        assert answer["namespaces"] == ["time"]
        offsets = Path(f"/proc/{pid}/timens_offsets").read_text()
        again = clocks()
        assert all(abs(a - b) < 0.9 for a, b in zip(behind, again, strict=True)), (behind, again, offsets)
    finally:
        Path(f"{said}.end").touch()
        os.waitpid(int(pid), 0)
        proc.become_subreaper(False)
