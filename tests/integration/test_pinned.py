"""Pages that the kernel has pinned change without a dirty bit; no round may vouch for them."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ckpt import chain, dump, pre_dump
from ckpt.engine.doctor import dumpable
from ckpt.errors import KernelError, NotDumpable
from ckpt.kernel.writers import Writers
from ckpt.tracker import choice
from tests.support import harness
from tests.support.oracle import truth
from tests.support.programs import harness_tree, need

pytestmark = [
    pytest.mark.guest,
    pytest.mark.timeout(120),
    pytest.mark.skipif(os.geteuid() != 0, reason="run it as root"),
]

PROGRAMS = Path(__file__).parent.parent / "programs"
SOURCE = PROGRAMS / "registered.c"
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

# Arguments: a file, the pid and the address to which the file's first pages are written once they are there.
WRITER = """
import ctypes, os, sys
libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
here = libc.mmap(None, 65536, 1, 2, os.open(sys.argv[1], os.O_RDONLY), 0)
local, remote = (ctypes.c_ulong * 2)(here, 65536), (ctypes.c_ulong * 2)(int(sys.argv[3]), 65536)
print("begins", flush=True)
print(libc.process_vm_writev(int(sys.argv[2]), local, 1, remote, 1, 0), flush=True)
"""
IDLE = """
import ctypes, mmap, sys
area = mmap.mmap(-1, 1 << 18, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
area[:] = bytes([1]) * len(area)
print(ctypes.addressof(ctypes.c_char.from_buffer(area)), flush=True)
sys.stdin.readline()
"""
ENDS = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """The server of a file whose reads wait until it is told to answer, and the file."""
    place = tmp_path / "slow"
    place.mkdir()
    with subprocess.Popen([sys.executable, SERVER, place], text=True, stderr=subprocess.DEVNULL, **ENDS) as server:
        if server.stdout is None or server.stdout.readline() != "up\n":
            pytest.skip("no FUSE: needs /dev/fuse, and to mount")
        try:
            yield server, place / "f"
        finally:
            ctypes.CDLL(None).umount2(bytes(place), 2)
            server.kill()


@pytest.fixture
def told() -> None:
    """Where the kernel's memory cannot be read nobody can tell."""
    try:
        Writers().close()
    except KernelError as error:
        pytest.skip(str(error))


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
def test_direct_reads_under_way_are_seen(
    tmp_path: Path, slow: tuple[subprocess.Popen[str], Path], tracker: str
) -> None:
    if lacks := choice.missing(tracker):
        pytest.skip(f"{tracker}: {lacks[0].evidence}")
    server, file = slow
    with subprocess.Popen([sys.executable, "-S", "-c", AIO, file], text=True, **ENDS) as process:
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


def _hidden_ring(tmp_path: Path) -> Path:
    need("gcc")
    program = tmp_path / "hidden_ring"
    subprocess.run(["gcc", "-O1", "-o", program, PROGRAMS / "hidden_ring.c"], check=True)
    return program


@pytest.mark.usefixtures("told")
@pytest.mark.parametrize("tracker", ["write-protect", "soft-dirty"])
@pytest.mark.parametrize("how", ["closed", "registered", "aio"])
def test_reads_of_rings_that_nothing_shows_are_seen(
    tmp_path: Path, slow: tuple[subprocess.Popen[str], Path], how: str, tracker: str
) -> None:
    if lacks := choice.missing(tracker):
        pytest.skip(f"{tracker}: {lacks[0].evidence}")
    server, file = slow
    with subprocess.Popen([_hidden_ring(tmp_path), file, how], text=True, **ENDS) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == "ready\n"
            _round(process.pid, tmp_path / "chain", tracker)
            if _ask(process) != "0\n":
                pytest.skip(
                    "no such ring: see kernel.io_uring_disabled; IORING_SETUP_REGISTERED_FD_ONLY is of Linux 6.5"
                )
            _round(process.pid, tmp_path / "chain", tracker)
            assert _ask(server, "z\n") == "answered\n"
            assert _ask(process) == "z\n"
            lost = _round(process.pid, tmp_path / "chain", tracker)
            assert ("Linux AIO" if how == "aio" else "io_uring") in "".join(lost)
            if how == "registered":
                assert "io_uring" in str(dumpable(process.pid))
                with pytest.raises(NotDumpable, match="io_uring"):
                    dump(process.pid, tmp_path / "chain", tracker=tracker, leave="running")
            if how == "closed":
                assert "io_uring" not in str(dumpable(process.pid))  # a worker may be left over
                assert not _round(process.pid, tmp_path / "chain", tracker)
        finally:
            process.kill()


@pytest.mark.usefixtures("told")
@pytest.mark.parametrize("tracker", ["write-protect", "soft-dirty"])
def test_writes_of_another_process_under_way_are_seen(
    tmp_path: Path, slow: tuple[subprocess.Popen[str], Path], tracker: str
) -> None:
    """What it has pinned it writes to past the page tables. soft-dirty leaves pinned pages dirty besides."""
    if lacks := choice.missing(tracker):
        pytest.skip(f"{tracker}: {lacks[0].evidence}")
    server, file = slow
    with subprocess.Popen([sys.executable, "-S", "-c", IDLE], text=True, **ENDS) as process:
        try:
            assert process.stdout is not None
            place = process.stdout.readline().strip()
            _round(process.pid, tmp_path / "chain", tracker)
            writer = subprocess.Popen(
                [sys.executable, "-S", "-c", WRITER, file, str(process.pid), place], text=True, **ENDS
            )
            with writer:
                assert writer.stdout is not None and writer.stdout.readline() == "begins\n"
                _waits(writer.pid, "311")  # process_vm_writev: for the page it writes from
                assert not _round(process.pid, tmp_path / "chain", tracker)
                assert _ask(server, "z\n") == "answered\n"
                assert writer.stdout.readline() == "65536\n"
            assert "another process" in "".join(_round(process.pid, tmp_path / "chain", tracker))
            assert not _round(process.pid, tmp_path / "chain", tracker)
        finally:
            process.kill()


DEVICE = """
import os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
print("open", flush=True)
sys.stdin.readline()
os.close(fd)
print("closed", flush=True)
sys.stdin.readline()
"""


@pytest.mark.parametrize("device", ["/dev/null", "/dev/ptmx", "/dev/fuse"])
def test_a_device_may_have_written(tmp_path: Path, device: str) -> None:
    """Which one pins memory and which does not nothing tells; those that are restored do not."""
    tracker = next((name for name in ("soft-dirty", "write-protect") if not choice.missing(name)), None)
    if tracker is None or not os.access(device, os.R_OK | os.W_OK):
        pytest.skip(f"needs {device}, and a tracker that vouches for something")
    with subprocess.Popen([sys.executable, "-S", "-c", DEVICE, device], text=True, **ENDS) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == "open\n"
            _round(process.pid, tmp_path / "chain", tracker)
            assert _ask(process) == "closed\n"
            assert (f"a device ({device})" in "".join(_round(process.pid, tmp_path / "chain", tracker))) == (
                device == "/dev/fuse"
            )
            assert not _round(process.pid, tmp_path / "chain", tracker)
        finally:
            process.kill()


def test_a_request_that_waits_is_not_interrupted(tmp_path: Path) -> None:
    """A worker of io_uring that a signal or a tracer wakes gives its request up."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with subprocess.Popen([_hidden_ring(tmp_path), fifo, "waiting"], text=True, **ENDS) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == "ready\n"
            if _ask(process) != "0\n":
                pytest.skip("no io_uring: see kernel.io_uring_disabled")
            pre_dump(process.pid, tmp_path / "chain")
            with pytest.raises(NotDumpable, match=r"thread \d+ works for an io_uring"):
                dump(process.pid, tmp_path / "chain", leave="running")
            os.close(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))
            assert int(_ask(process)) > 2
        finally:
            process.kill()


def _round(pid: int, directory: Path, tracker: str) -> tuple[str, ...]:
    """A pre-dump whose image is held against the memory; gives what was lost."""
    for task in harness_tree(pid):
        _waits(task, "0", "34")  # read, pause: after its answer it still had some way to go
    lost = pre_dump(pid, directory, tracker=tracker).statistics.lost
    with chain.view(directory) as view:
        assert truth.differences(view, harness_tree(pid)) == []
    return tuple(lost)


def _waits(pid: int, *calls: str) -> None:
    """Until a task waits in one of these system calls."""
    end = time.monotonic() + 60
    while (call := Path(f"/proc/{pid}/syscall").read_text().split()[0]) not in calls:
        assert time.monotonic() < end, f"{pid} does not wait in {calls}: {call}"
        time.sleep(0.001)
