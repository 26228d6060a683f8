"""Files whose contents travel, and what others did to them between the dump and the restore. Needs root."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.commands import commands
from tests.support.programs import Program, reap, until

pytestmark = [
    pytest.mark.root,
    pytest.mark.timeout(600),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: restores under the old pids"),
]


@pytest.fixture
def memory() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(dir="/dev/shm", prefix="ckpt-test-"))
    yield made / "here"
    shutil.rmtree(made)


def dumped(program: Program, memory: Path, redirection: str) -> None:
    memory.mkdir()
    (memory / "file").write_text("as it was")
    program.start("sh", "-c", f"exec sleep 1000 {redirection}{memory}/file")
    until(lambda: Path(f"/proc/{program.root}/comm").read_text() == "sleep\n", "it holds the file")
    program.ckpt("dump", "-t", program.root, "-D", program.place / "chain")
    until(lambda: reap([program.root]), "it is gone")


def refused(program: Program) -> str:
    done = commands().run(["restore", "-D", str(program.place / "chain"), "--detach"], program.place)
    assert done.returncode
    return done.stderr


def test_a_restore_that_is_refused_leaves_them(program: Program, memory: Path, tmp_path: Path) -> None:
    """Another file of the tree's has changed since: then nothing is written."""
    mapped = tmp_path / "mapped"
    mapped.write_bytes(bytes(8192))
    memory.mkdir()
    code = f"import mmap, time; f = open({str(memory / 'file')!r}, 'w'); f.write('as it was'); f.flush(); "
    code += f"g = open({str(mapped)!r}, 'rb'); m = mmap.mmap(g.fileno(), 0, mmap.MAP_PRIVATE, mmap.PROT_READ); "
    program.start(sys.executable, "-c", code + "print('ready', flush=True); time.sleep(1000)")
    until(lambda: program.log().endswith("ready\n"), "it has its files")
    program.ckpt("dump", "-t", program.root, "-D", program.place / "chain")
    until(lambda: reap([program.root]), "it is gone")
    (memory / "file").write_text("written since")
    mapped.write_bytes(bytes(4096))
    assert "has changed since the dump" in refused(program)
    assert (memory / "file").read_text() == "written since"
    (memory / "file").unlink()
    assert "has changed since the dump" in refused(program)
    assert not (memory / "file").exists()


def test_what_the_tree_only_reads_stays_as_others_wrote_it(program: Program, memory: Path) -> None:
    dumped(program, memory, "9<")
    (memory / "file").write_text("written since")
    program.ckpt("restore", "-D", program.place / "chain", "--detach")
    assert (memory / "file").read_text() == "written since"


def test_what_the_tree_only_reads_is_made_again(program: Program, memory: Path) -> None:
    dumped(program, memory, "9<")
    shutil.rmtree(memory)
    program.ckpt("restore", "-D", program.place / "chain", "--detach")
    assert (memory / "file").read_text() == "as it was"


def test_a_file_of_another_user_is_not_written_in(program: Program, memory: Path) -> None:
    dumped(program, memory, "9<>")
    (memory / "file").unlink()
    (memory / "file").write_text("another")
    os.chown(memory / "file", 65534, 65534)
    assert "another user's now" in refused(program)
    assert (memory / "file").read_text() == "another"


@pytest.mark.parametrize("there", [True, False])
def test_a_directory_that_became_a_symbolic_link_leads_nowhere(program: Program, memory: Path, there: bool) -> None:
    dumped(program, memory, "9<>")
    shutil.rmtree(memory)
    victim = program.place / "victim"
    victim.mkdir()
    if there:
        (victim / "file").write_text("not to be touched")
    memory.symlink_to(victim)
    assert "Not a directory" in refused(program)
    assert [path.read_text() for path in victim.iterdir()] == ["not to be touched"] * there


def test_a_program_that_runs_elsewhere_too(program: Program, memory: Path) -> None:
    memory.mkdir()
    shutil.copy("/bin/sleep", memory / "sleep")
    program.start(memory / "sleep", "1000")
    with subprocess.Popen([memory / "sleep", "1000"]) as other:
        try:
            program.ckpt("dump", "-t", program.root, "-D", program.place / "chain")
            until(lambda: reap([program.root]), "it is gone")
            program.ckpt("restore", "-D", program.place / "chain", "--detach")
        finally:
            other.kill()


SHARED = """
import os, sys, time
from multiprocessing import shared_memory
shared = shared_memory.SharedMemory("ckpt-test-%d" % os.getpid(), create=True, size=8)
other = shared_memory.SharedMemory(shared.name)
print(shared.name, flush=True)
while True:
    n = int.from_bytes(shared.buf[:8], "little")
    shared.buf[:8] = (n + 1).to_bytes(8, "little")
    assert int.from_bytes(other.buf[:8], "little") == n + 1
    time.sleep(0.01)
"""


def test_shared_memory_by_name_that_is_gone(program: Program) -> None:
    """As after a reboot."""
    program.start(sys.executable, "-c", SHARED)
    until(lambda: program.log().endswith("\n"), "it has its memory")
    memory = Path("/dev/shm") / program.log().strip()

    def now() -> int:
        return int.from_bytes(memory.read_bytes(), "little")

    until(now, "it counts")
    program.ckpt("dump", "-t", program.root, "-D", program.place / "chain")
    until(lambda: reap([program.root]), "it is gone")
    last = now()
    memory.unlink()
    try:
        program.ckpt("restore", "-D", program.place / "chain", "--detach")
        until(lambda: now() > last, "it goes on counting there")
        assert last < now() < last + 100_000
    finally:
        memory.unlink(missing_ok=True)


MEMORY = """
import mmap, os, sys, time
fd = os.open("/dev/shm/ckpt-test-%d" % os.getpid(), os.O_RDWR | os.O_CREAT | os.O_EXCL)
os.ftruncate(fd, 3 << 20)
memory = mmap.mmap(fd, 3 << 20)
os.close(fd)
print("/dev/shm/ckpt-test-%d" % os.getpid(), flush=True)
n = 0
while True:
    assert int.from_bytes(memory[:8], "little") == n == int.from_bytes(memory[-8:], "little")
    n += 1
    memory[:8] = memory[-8:] = n.to_bytes(8, "little")
    time.sleep(0.01)
"""


@pytest.mark.parametrize("how", ["fork", "frozen"])
def test_shared_memory_by_name_in_a_snapshot(program: Program, how: str) -> None:
    """The original wrote in it afterwards; as with the semaphores of multiprocessing's forkserver."""
    program.start(sys.executable, "-c", MEMORY)
    until(lambda: program.log().endswith("\n"), "it has its memory")
    memory = Path(program.log().strip())

    def now() -> int:
        return int.from_bytes(memory.read_bytes()[:8], "little")

    try:
        until(now, "it counts")
        program.ckpt("dump", "-t", program.root, "-D", program.place / "chain", "--leave-running", "--snapshot", how)
        last = now()
        until(lambda: now() > last + 5, "it goes on")
        os.kill(program.root, signal.SIGKILL)
        until(lambda: reap([program.root]), "it is gone")
        inode = memory.stat().st_ino
        program.ckpt("restore", "-D", program.place / "chain", "--detach")
        last = now()
        until(lambda: now() > last + 5, f"it goes on from the snapshot; {program.log()}")
        assert memory.stat().st_ino == inode
        with memory.open("rb") as other:  # somebody outside has it open: it stays as it is
            program.ckpt("dump", "-t", program.root, "-D", program.place / "again")
            until(lambda: reap([program.root]), "it is gone")
            memory.write_bytes(bytes(3 << 20))
            program.ckpt("restore", "-D", program.place / "again", "--detach")
            assert other.read(8) == bytes(8)
    finally:
        memory.unlink(missing_ok=True)
