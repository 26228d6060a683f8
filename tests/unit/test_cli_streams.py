"""Standard streams that are closed, full, read by nobody, or of a locale that lacks a sign.

root: not needed; guest: off.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import ckpt
from ckpt.errors import NoSuchTask


def test_a_closed_pipe_is_no_traceback() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "ckpt", "--help"], stdout=writer, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL
    )
    os.close(writer)
    assert done.returncode != 0 and b"Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("out", "code", "words"), [("pipe", 141, None), ("/dev/full", 1, "standard output cannot be written: No space")]
)
def test_precopy_goes_on_where_nobody_listens(tmp_path: Path, out: str, code: int, words: str | None) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    task = subprocess.Popen(["sleep", "600"], start_new_session=True, stdout=subprocess.DEVNULL, stderr=-3, stdin=-3)
    try:
        with open("/dev/full", "w") as full:
            command = ["precopy", "-t", str(task.pid), "-D", str(tmp_path / "c")]
            done = subprocess.run(
                [sys.executable, "-m", "ckpt", *command],
                stdout=writer if out == "pipe" else full, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True,
            )  # fmt: skip
        said = done.stderr.splitlines()
        assert done.returncode == code and len(said) == (2 if words else 0) and (words or "") in done.stderr, done
        assert [info.header.kind for info in ckpt.show(tmp_path / "c")][-1] == "dump"
        assert task.wait(timeout=30) == -9
    finally:
        os.close(writer)
        task.kill()
        task.wait()


def test_errors_that_nobody_hears_keep_their_status(tmp_path: Path) -> None:
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "ckpt", "show", "-D", str(tmp_path / "none")]
        assert subprocess.run(command, stderr=full, check=False).returncode == 40


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams_do_not_matter(tmp_path: Path, closed: str) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    command = f'exec "$0" -m ckpt pre-dump -t {gone.pid} -D "$1" {closed}'
    done = subprocess.run(["sh", "-c", command, sys.executable, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == NoSuchTask.exit_code, done


@pytest.mark.parametrize("encoding", ["utf-8:strict", "ascii:strict", "koi8-r:strict"])
def test_names_and_signs_that_the_locale_lacks(tmp_path: Path, encoding: str) -> None:
    directory = os.fsencode(tmp_path) + b"/\xc2\xb5 \xff"
    os.mkdir(directory)
    command = [sys.executable, "-m", "ckpt", "show", "-D", directory]
    done = subprocess.run(command, env=os.environ | {"PYTHONIOENCODING": encoding}, capture_output=True, check=False)
    assert done.returncode == 0 and not done.stderr, done
    assert (b"\xc2\xb5 \xff" if encoding == "utf-8:strict" else b"\\udcff") in done.stdout, done


def test_a_full_disk_under_standard_output() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-u", "-m", "ckpt", "doctor"],
            stdin=subprocess.DEVNULL, stdout=full, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
    assert done.returncode == 1 and "standard output cannot be written: No space left" in done.stderr
    assert len(done.stderr.splitlines()) == 2
