"""Files whose contents travel, and what others did to them between the dump and the restore. Needs root."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import harness
from tests.support.commands import commands
from tests.support.programs import Program, reap, until

pytestmark = pytest.mark.root


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    harness.become_subreaper()
    made = Program(tmp_path)
    try:
        yield made
    finally:
        made.end()
        harness.become_subreaper(False)


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
