"""Pages that the kernel has pinned change without a dirty bit; no round may vouch for them."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ckpt import chain, pre_dump
from ckpt.tracker import choice
from tests.support import harness
from tests.support.oracle import truth
from tests.support.programs import harness_tree, need

pytestmark = [
    pytest.mark.guest,
    pytest.mark.timeout(120),
    pytest.mark.skipif(os.geteuid() != 0, reason="run it as root"),
]

SOURCE = Path(__file__).parent.parent / "programs" / "registered.c"
SERVER = Path(__file__).parent.parent / "support" / "slow_file.py"

# On standard input: a line to begin a direct read of the file, one to fetch its event and end the context.
AIO = """
import ctypes, mmap, os, struct, sys
libc = ctypes.CDLL(None)
area = mmap.mmap(-1, 1 << 18, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
area[:] = bytes([1]) * len(area)
place = ctypes.addressof(ctypes.c_char.from_buffer(area))
context, event = ctypes.c_ulong(), ctypes.create_string_buffer(32)
print("ready", flush=True)
sys.stdin.readline()
fd = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECT)
block = ctypes.create_string_buffer(struct.pack("<QIiHhIQQqQII", 0, 0, 0, 0, 0, fd, place, len(area), 0, 0, 0, 0))
libc.syscall(206, 4, ctypes.byref(context))
print(libc.syscall(209, context, 1, ctypes.byref(ctypes.pointer(block))), flush=True)
sys.stdin.readline()
libc.syscall(208, context, 1, 1, event, None)
libc.syscall(207, context)
print(struct.unpack_from("<q", event, 16)[0], flush=True)
sys.stdin.readline()
"""


@pytest.mark.parametrize("tracker", ["write-protect", "soft-dirty", "content-hash"])
@pytest.mark.parametrize("who", ["own", "child"])
def test_reads_into_registered_buffers_are_seen(tmp_path: Path, who: str, tracker: str) -> None:
    if lacks := choice.missing(tracker):
        pytest.skip(f"{tracker}: {lacks[0].evidence}")
    need("gcc")
    program = tmp_path / "registered"
    subprocess.run(["gcc", "-O1", "-o", program, SOURCE], check=True)
    ends = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([program, tmp_path / "file", who], text=True, **ends) as process:
        assert process.stdin is not None and process.stdout is not None
        if process.stdout.readline() != "ready\n":
            pytest.skip("no io_uring with registered buffers: see kernel.io_uring_disabled")
        pids = harness_tree(process.pid)
        try:
            lost: list[str] = []
            for letter in ("", "a", "b", ".", ""):
                if letter:
                    assert _ask(process, letter) == ("0\n" if letter == "." else f"{64 * 4096}\n")
                lost += _round(process.pid, tmp_path / "chain", tracker)
            if tracker != "content-hash":
                assert ("VmPin" if who == "child" else "io_uring") in "".join(lost)
        finally:
            for pid in pids:
                with harness.suppressed(ProcessLookupError):
                    os.kill(pid, 9)


def _ask(process: subprocess.Popen[str], line: str = "x\n") -> str:
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(line)
    process.stdin.flush()
    return process.stdout.readline()


@pytest.mark.parametrize("tracker", ["write-protect", "soft-dirty", "content-hash"])
def test_direct_reads_under_way_are_seen(tmp_path: Path, tracker: str) -> None:
    if lacks := choice.missing(tracker):
        pytest.skip(f"{tracker}: {lacks[0].evidence}")
    place = tmp_path / "slow"
    place.mkdir()
    ends = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, SERVER, place], text=True, stderr=subprocess.DEVNULL, **ends) as server:
        if server.stdout is None or server.stdout.readline() != "up\n":
            pytest.skip("no FUSE: needs /dev/fuse, and to mount")
        try:
            with subprocess.Popen([sys.executable, "-S", "-c", AIO, place / "f"], text=True, **ends) as process:
                try:
                    assert process.stdout is not None and process.stdout.readline() == "ready\n"
                    _round(process.pid, tmp_path / "chain", tracker)
                    assert _ask(process) == "1\n"
                    _round(process.pid, tmp_path / "chain", tracker)
                    assert _ask(server, "z\n") == "answered\n"
                    assert _ask(process) == f"{1 << 18}\n"
                    lost = _round(process.pid, tmp_path / "chain", tracker)
                    assert tracker == "content-hash" or "Linux AIO" in "".join(lost)
                    assert not _round(process.pid, tmp_path / "chain", tracker)
                finally:
                    process.kill()
        finally:
            ctypes.CDLL(None).umount2(bytes(place), 2)
            server.kill()


def _round(pid: int, directory: Path, tracker: str) -> tuple[str, ...]:
    """A pre-dump whose image is held against the memory; gives what was lost."""
    lost = pre_dump(pid, directory, tracker=tracker).statistics.lost
    with chain.view(directory) as view:
        assert truth.differences(view, harness_tree(pid)) == []
    return tuple(lost)
