"""What leaves no dirty bit, or takes pages from a snapshot: images are right all the same.

root: on (soft-dirty, KSM); guest: on (soft-dirty is only there).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ckpt import DumpOptions, chain, dump, pre_dump
from ckpt.kernel import ksm, pagemap, procfs
from ckpt.kernel.memory import Memory
from ckpt.kernel.pagemap import clear_soft_dirty
from ckpt.kernel.uapi import PAGE_SIZE
from ckpt.tracker import choice
from tests.support.obedient import Obedient, Refused
from tests.support.oracle import truth

pytestmark = [
    pytest.mark.guest,
    pytest.mark.timeout(300),
    pytest.mark.skipif(os.geteuid() != 0, reason="run it as root"),
]
KSM = Path("/sys/kernel/mm/ksm")


class Rounds:
    """Pre-dumps of a target by one tracker; each image is compared to memory."""

    def __init__(self, target: Obedient, directory: Path, tracker: str) -> None:
        if lacks := choice.missing(tracker):
            pytest.skip(f"{tracker}: {lacks[0].evidence}")
        self.target, self.directory, self.tracker = target, directory, tracker

    def __call__(self) -> str:
        """One round; why tracking was lost."""
        made = pre_dump(self.target.pid, self.directory, tracker=self.tracker)
        with chain.view(self.directory) as view:
            assert truth.differences(view, [self.target.pid]) == []
        return "".join(made.statistics.lost)


@pytest.fixture
def target() -> Iterator[Obedient]:
    with Obedient() as made:
        yield made


@pytest.fixture(params=["soft-dirty"])  # so that the guests' lanes find it in the name
def rounds(request: pytest.FixtureRequest, target: Obedient, tmp_path: Path) -> Rounds:
    return Rounds(target, tmp_path / "chain", request.param)


def test_a_foreign_clear_is_seen_though_the_target_writes_everywhere(target: Obedient, rounds: Rounds) -> None:
    target.do("a = mmap(16 * P); poke(a, b'before' * 9999)")
    a = int(str(target.ask("a")))
    rounds()
    assert not rounds()
    target.do("poke(a + 3 * P, b'lost')")
    clear_soft_dirty(target.pid)
    # By our hand, while it sleeps: what it read it would put back beside changes that reading had made.
    with pagemap.Pagemap(target.pid) as entries, Memory(target.pid, write=True) as memory:
        for line in procfs.maps(target.pid):
            for page in range(line.start, line.end, PAGE_SIZE) if line.perms.startswith("rw-p") else ():
                if not a <= page < a + 16 * PAGE_SIZE and entries.entry(page // PAGE_SIZE) >> 63:
                    memory.write(page, memory.read(page, 1))
    assert "canary" in rounds()


def test_a_page_table_moved_beside_a_frame_that_is_there_again(target: Obedient, rounds: Rounds) -> None:
    """mremap moves the table of B to A, bits and all; B's first page has the frame that A's had."""
    target.do("""
base = mmap(16 * H, prot=0)
base = (base + H - 1) // H * H
A, B = mmap(H, flags=0x32, at=base + 2 * H), mmap(H, flags=0x32, at=base + 6 * H)
for at, data in ((A, b"A"), (B, b"B")):
    madvise(at, H, 15)
    poke(at, data * H)
""")
    rounds()
    assert not rounds()
    target.do("madvise(B, P, 4); madvise(A, P, 4); poke(B, b'C' * P); call(25, B, H, H, 3, A)")
    assert not rounds()


@contextmanager
def _merging(target: Obedient) -> Iterator[None]:
    """KSM at work, on what the target lets it merge."""
    if not os.access(KSM / "run", os.W_OK):
        pytest.skip("KSM cannot be switched on here: run as root on a kernel with CONFIG_KSM, and a writable /sys")
    before = {name: (KSM / name).read_text() for name in ("pages_to_scan", "sleep_millisecs", "run")}
    try:
        for name, value in (("pages_to_scan", "5000"), ("sleep_millisecs", "10"), ("run", "1")):
            (KSM / name).write_text(value)
        yield
    finally:
        for name, value in before.items():
            (KSM / name).write_text(value)


def test_pages_that_were_merged_and_given_back(target: Obedient, rounds: Rounds) -> None:
    """Merged, a page loses its bit; MADV_UNMERGEABLE does not bring it back, and resets all counts."""
    target.do("a, b = mmap(64 * P), mmap(64 * P); poke(a, os.urandom(64 * P)); poke(b, os.urandom(64 * P))")
    rounds()
    assert not rounds()
    target.do("madvise(a, 64 * P, 12); madvise(b, 64 * P, 12)")
    target.do("poke(a + 7 * P, b'same' * 1024); poke(b + 9 * P, b'same' * 1024)")
    with _merging(target):
        target.do("import time")
        end = time.monotonic() + 120
        while not ksm.merged_pages(target.pid):
            assert time.monotonic() < end, "KSM merges nothing"
            target.do("time.sleep(0.1)")
        assert choice.choose()[0] != "soft-dirty"
        target.do("madvise(a, 64 * P, 13); madvise(b, 64 * P, 13)")
        while ksm.merged_pages(target.pid):  # until it comes by again
            assert time.monotonic() < end, "KSM does not give back"
            target.do("time.sleep(0.1)")
    assert "KSM" in rounds()


@pytest.mark.parametrize("tracker", choice.NEEDS)
def test_memory_above_128_tebibytes(target: Obedient, tmp_path: Path, tracker: str) -> None:
    """Five levels of page tables, for those who ask for it."""
    try:
        if target.ask("mmap(4 * P, at=1 << 52)") != 1 << 52:
            pytest.skip("this machine has four levels of page tables")
    except Refused as error:
        pytest.skip(str(error))
    rounds = Rounds(target, tmp_path / "chain", tracker)
    for text in ("one", "two", "three"):
        target.do(f"poke((1 << 52) + P, {text.encode()})")
        assert not rounds()


@pytest.mark.parametrize("tracker", ["write-protect", "soft-dirty"])
def test_what_a_ring_in_the_tasks_own_memory_writes(target: Obedient, tmp_path: Path, tracker: str) -> None:
    """IORING_SETUP_NO_MMAP: no mapping shows the ring, and VmPin does not count its pages."""
    rounds = Rounds(target, tmp_path / "chain", tracker)
    try:
        target.do("""
ring = (mmap(2 * H) + H - 1) // H * H
poke(ring, bytes(2 * P))
params = ctypes.create_string_buffer(120)
struct.pack_into("<III", params, 0, 8, 16, 1 << 14 | 1 << 16)
struct.pack_into("<Q", params, 72, ring + P)
struct.pack_into("<Q", params, 112, ring)
fd = call(425, 8, ctypes.addressof(params))
tail = struct.unpack_from("<10I", params, 40)[1]
for at in range(4):
    poke(ring + P + at * 64, bytes(64))
poke(ring + tail, struct.pack("<I", 4))
""")
    except Refused as error:
        pytest.skip(f"no io_uring without mappings: {error}")
    rounds()
    assert "io_uring" in rounds()
    assert target.ask("call(426, fd, 4, 4, 1, 0, 0)") == 4
    assert "io_uring" in rounds()
    target.do("os.close(fd)")
    assert "io_uring" in rounds()


@pytest.mark.parametrize("tracker", ["write-protect", "soft-dirty"])
def test_memory_of_an_xdp_socket_is_not_vouched_for(target: Obedient, tmp_path: Path, tracker: str) -> None:
    rounds = Rounds(target, tmp_path / "chain", tracker)
    try:
        target.do("""
area = mmap(64 * P)
fd = libc.socket(44, 3, 0)
made = struct.pack("<QQIIII", area, 64 * P, 4096, 0, 0, 0)
assert fd >= 0 and libc.setsockopt(fd, 283, 4, made, len(made)) == 0
""")
    except Refused:
        pytest.skip("no XDP sockets here")
    rounds()
    target.do("os.close(fd)")
    assert "XDP" in rounds()
    assert not rounds()


def test_a_file_truncated_while_a_snapshot_is_written(target: Obedient, tmp_path: Path) -> None:
    """A truncation takes the private pages of every mapping of the file, those of the snapshot's fork too."""
    areas = target.ask("[mmap(96 << 20, flags=0x100022, at=0x100000000000), mmap(P, at=0x600000000000)]")
    assert isinstance(areas, list)
    (tmp_path / "file").write_bytes(b"file" * 16384)
    target.do(f"""
poke({areas[0]}, os.urandom(96 << 20))
file, memory = os.open("{tmp_path}/file", os.O_RDWR), os.memfd_create("memory")
os.write(memory, b"file" * 16384)
""")
    places = [target.ask(f"mmap(16 * P, 3, 2, {name}, 0x610000000000 + {name} * H)") for name in ("file", "memory")]
    for place in places:
        target.do(f"poke({place}, b'mine' * 16384)")
    cut = []

    def progress(what: str, done: int, total: int) -> None:
        if not cut:
            cut.append(done)
            target.do("for fd in file, memory:\n    os.ftruncate(fd, 0)\n    os.ftruncate(fd, 65536)")

    options = DumpOptions(ext_pipe=True)
    made = dump(target.pid, tmp_path / "chain", leave="running", snapshot="fork", options=options, progress=progress)
    assert made.statistics.snapshot == "fork" and cut
    pages = {}
    with chain.view(tmp_path / "chain") as view:
        for numbers, data in view.read(f"mm:{target.pid}"):
            raw = bytes(data)
            pages.update({int(page): raw[at * 4096 : at * 4096 + 4096] for at, page in enumerate(numbers)})
    for place in places:
        assert isinstance(place, int)
        assert {pages.get(place // 4096 + at, b"")[:4] for at in range(16)} == {b"mine"}
    assert target.ask(f"peek({places[0]}, 4)") == bytes(4)


def test_no_frame_of_a_remote_call_is_in_a_snapshot(target: Obedient, tmp_path: Path) -> None:
    """A fork that fails, and a stack that a fork does not carry over: what the freeze copies is its own."""
    target.do("""
import resource
rows = [line.split() for line in open("/proc/self/maps") if "[stack]" in line]
start, end = (int(text, 16) for text in rows[0][0].split("-"))
madvise(start, end - start, 18)
area = mmap(4000 * P)
poke(area, os.urandom(4000 * P))
""")
    for name in ("fork", "frozen"):
        if name == "frozen":
            target.do("resource.setrlimit(resource.RLIMIT_NPROC, (1, 1)); os.setuid(34567); libc.prctl(4, 1, 0, 0, 0)")
        made = dump(target.pid, tmp_path / name, leave="running", options=DumpOptions(ext_pipe=True))
        assert made.statistics.snapshot == name
        with chain.view(tmp_path / name) as view:
            assert truth.differences(view, [target.pid]) == []


@contextmanager
def _memory_cgroup(pid: int) -> Iterator[Callable[[int], None]]:
    """A cgroup of its own for a process; what is given sets how many bytes more it may have."""
    first, second = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")
    mount = first if (first / "memory.limit_in_bytes").exists() else second
    group = mount / f"ckpt-test-{pid}"
    try:
        group.mkdir()
    except OSError:
        pytest.skip("no memory cgroup can be made here")
    limit, usage = (
        ("memory.limit_in_bytes", "memory.usage_in_bytes") if mount == first else ("memory.max", "memory.current")
    )
    try:
        if not (group / limit).exists():
            pytest.skip("memory cgroups are not delegated here")
        (group / "cgroup.procs").write_text(str(pid))
        yield lambda more: (group / limit).write_text(str(int((group / usage).read_text()) + more)) and None
    finally:
        (mount / "cgroup.procs").write_text(str(pid))
        group.rmdir()


def test_a_fork_that_would_make_memory_run_out_is_not_tried(target: Obedient, tmp_path: Path) -> None:
    """At the limit of its cgroup the kernel would kill the task that is forked: nobody else is there yet."""
    with _memory_cgroup(target.pid) as allow:
        target.do("area = mmap(20000 * P); poke(area, os.urandom(1 << 20) * 78)")
        allow(48 << 10)
        for name, how in (("auto", "auto"), ("fork", "fork")):
            options = DumpOptions(ext_pipe=True)
            made = dump(target.pid, tmp_path / name, leave="running", snapshot=how, options=options)
            assert made.statistics.snapshot == "frozen"
            assert "until memory runs out" in (made.statistics.snapshot_reason or "")
            assert target.ask("peek(area, 1) is not None")
        allow(64 << 20)
        made = dump(target.pid, tmp_path / "room", leave="running", snapshot="fork", options=DumpOptions(ext_pipe=True))
        assert made.statistics.snapshot == "fork"


@pytest.mark.parametrize("tracker", ["soft-dirty", "content-hash"])
def test_a_write_from_outside_that_is_under_way_in_a_freeze(target: Obedient, tmp_path: Path, tracker: str) -> None:
    """Its pages are pinned: soft-dirty leaves those dirty. Write-protection does not (README)."""
    if shutil.which("gcc") is None:
        pytest.skip("gcc is missing: install it")
    program, source = tmp_path / "slow_write", Path(__file__).parent.parent / "programs" / "slow_write.c"
    subprocess.run(["gcc", "-O1", "-pthread", "-o", program, source], check=True)
    rounds = Rounds(target, tmp_path / "chain", tracker)
    area = target.ask("mmap(64 * P)")
    target.do(f"poke({area}, os.urandom(64 * P)); madvise({area}, 64 * P, 15)")
    rounds()
    command = [program, str(target.pid), str(area)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as process:
        assert process.stdin is not None and process.stdout is not None
        if not process.stdout.read(1):
            pytest.skip("no userfaultfd for this user")
        rounds()
        process.stdin.write(b"\n")
        assert process.wait(60) == 0
    rounds()
