"""The parsers of /proc/PID/maps and smaps, on mappings of files with odd names."""

from __future__ import annotations

import mmap
import os
from dataclasses import replace
from pathlib import Path

import pytest

from ckpt.kernel import mapped, procfs
from ckpt.kernel.procfs import MapsLine


@pytest.mark.parametrize(
    "name", ["plain", "form\x0cfeed", "unit\x1cline", "next\x85line", "end ", "VmFlags: rd", "a\nb"]
)
def test_a_file_of_any_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(bytes(8192))
    with path.open("rb") as file, mmap.mmap(file.fileno(), 8192, access=mmap.ACCESS_READ) as area:
        plain, full = procfs.maps(os.getpid()), procfs.smaps(os.getpid())
        assert len(area) == 8192
    mine = next(line for line in plain if line.path == str(path))
    found = next(line for line in full if line.path == str(path))
    assert (mine.end - mine.start, mine.ino, mine.dev) == (8192, path.stat().st_ino, path.stat().st_dev)
    assert {"rd", "mr"} <= set(found.vm_flags)
    assert replace(found, vm_flags=()) == mine


def test_every_mapping_has_its_flags() -> None:
    full = [line for line in procfs.smaps(os.getpid()) if line.path != "[vsyscall]"]
    assert full
    for line in full:
        assert ("rd" in line.vm_flags) == ("r" in line.perms), line
        assert ("wr" in line.vm_flags) == ("w" in line.perms), line
        assert ("ex" in line.vm_flags) == ("x" in line.perms), line


def test_the_inode_number_alone_is_no_way_to_a_mapped_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """A semaphore of /dev/shm once had the inode number of /dev/null, and was dumped as that."""
    monkeypatch.setattr(mapped, "map_files_allowed", lambda: False)
    with Path("/dev/null").open("rb") as null:
        ino = os.fstat(null.fileno()).st_ino
        line = MapsLine(0x10000, 0x11000, "rw-s", 0, os.makedev(0, 0x999), ino, "/dev/shm/sem.x (deleted)")
        assert mapped.way_to(os.getpid(), line) is None
        assert mapped.way_to(os.getpid(), replace(line, path="/dev/null")) == "/dev/null"
