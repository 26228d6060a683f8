"""A job whose stdin, stdout and stderr are pipes to somebody outside: refused, or given others at the restore."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.commands import REPOSITORY
from tests.support.proc import become_subreaper

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

JOB = """
import os, sys, time
sys.stdout.write("ready\\n"); sys.stdout.flush()
line = sys.stdin.readline()
sys.stdout.write(f"got {line!r}\\n"); sys.stdout.flush()
sys.stderr.write("and to stderr\\n"); sys.stderr.flush()
"""


def ckpt(*arguments: str, **streams: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "ckpt", *arguments]
    return subprocess.Popen(command, text=True, cwd=REPOSITORY, **streams)  # type: ignore[call-overload, no-any-return]


def run(*arguments: str, code: int = 0) -> dict[str, object]:
    done = ckpt(*arguments, "--json", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = done.communicate(timeout=60)
    assert done.returncode == code, out + err
    answer = json.loads(out or err)
    assert isinstance(answer, dict)
    return answer


@pytest.fixture
def job() -> Iterator[subprocess.Popen[str]]:
    become_subreaper()
    pipe = subprocess.PIPE
    started = subprocess.Popen(
        [sys.executable, "-c", JOB], stdin=pipe, stdout=pipe, stderr=pipe, text=True, start_new_session=True
    )
    assert started.stdout is not None and started.stdout.readline() == "ready\n"
    yield started
    if started.poll() is None:
        started.kill()
        started.wait()
    else:
        try:
            os.kill(started.pid, signal.SIGKILL)  # a restored one
            os.waitpid(started.pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass
    for stream in (started.stdin, started.stdout, started.stderr):
        assert stream is not None
        stream.close()
    become_subreaper(False)


def dumped(job: subprocess.Popen[str], images: Path) -> None:
    run("dump", "-t", str(job.pid), "-D", str(images), "--ext-pipe")
    job.wait(30)


def test_it_is_refused_with_the_way_on(job: subprocess.Popen[str], tmp_path: Path) -> None:
    error = run("dump", "-t", str(job.pid), "-D", str(tmp_path / "i"), code=25)["error"]
    assert isinstance(error, dict)
    assert "is a pipe to a process outside the tree" in error["message"] and "--ext-pipe" in str(error)
    assert job.poll() is None


def test_in_the_foreground_it_has_the_callers_streams(job: subprocess.Popen[str], tmp_path: Path) -> None:
    dumped(job, tmp_path / "i")
    pipe = subprocess.PIPE
    restoring = ckpt("restore", "-D", str(tmp_path / "i"), stdin=pipe, stdout=pipe, stderr=pipe)
    out, err = restoring.communicate("hello\n", timeout=60)
    assert (restoring.returncode, out, err) == (0, "got 'hello\\n'\n", "and to stderr\n")


def test_detached_its_other_ends_are_closed(job: subprocess.Popen[str], tmp_path: Path) -> None:
    dumped(job, tmp_path / "i")
    run("restore", "-D", str(tmp_path / "i"), "--detach")
    _, status = os.waitpid(job.pid, 0)
    assert os.waitstatus_to_exitcode(status) != 0, "it read the end, and nobody reads what it writes"


def test_bytes_that_wait_at_its_stdin_are_kept(job: subprocess.Popen[str], tmp_path: Path) -> None:
    os.kill(job.pid, signal.SIGSTOP)
    os.waitpid(job.pid, os.WUNTRACED)  # until then it may still read
    assert job.stdin is not None
    job.stdin.write("waiting\n")
    job.stdin.flush()
    dumped(job, tmp_path / "i")
    pipe = subprocess.PIPE
    restoring = ckpt("restore", "-D", str(tmp_path / "i"), stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe)
    end = time.monotonic() + 30
    while not select.select([restoring.stdout], [], [], 0.1)[0] and time.monotonic() < end:
        try:
            os.kill(job.pid, signal.SIGCONT)
        except ProcessLookupError:
            continue
    out, _ = restoring.communicate(timeout=60)
    assert out == "got 'waiting\\n'\n"


def test_one_stream_goes_to_a_descriptor_by_name(job: subprocess.Popen[str], tmp_path: Path) -> None:
    name = os.readlink(f"/proc/{job.pid}/fd/1")
    dumped(job, tmp_path / "i")
    with (tmp_path / "out").open("w") as out:
        os.set_inheritable(out.fileno(), True)
        spec = f"fd[{out.fileno()}]:{name}"
        restoring = ckpt(
            "restore", "-D", str(tmp_path / "i"), "--inherit-fd", spec,
            stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, close_fds=False,
        )  # fmt: skip
        assert restoring.wait(60) == 0
    assert (tmp_path / "out").read_text() == "got ''\n"


def test_a_socket_for_all_of_them_is_replaced_like_pipes(tmp_path: Path) -> None:
    become_subreaper()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        job = subprocess.Popen(
            [sys.executable, "-c", JOB], stdin=theirs, stdout=theirs, stderr=subprocess.DEVNULL, start_new_session=True
        )
        try:
            assert ours.recv(100) == b"ready\n"
            run("dump", "-t", str(job.pid), "-D", str(tmp_path / "i"), "--ext-unix")
        finally:
            job.kill()
            job.wait(30)
        mine, its = socket.socketpair()
        with mine, its:
            restoring = ckpt(
                "restore", "-D", str(tmp_path / "i"), stdin=its, stdout=its, stderr=subprocess.DEVNULL
            )  # fmt: skip
            mine.sendall(b"hello\n")
            assert restoring.wait(60) == 0
            assert mine.recv(100) == b"got 'hello\\n'\n"
    become_subreaper(False)


def test_specifications_that_mean_nothing(job: subprocess.Popen[str], tmp_path: Path) -> None:
    dumped(job, tmp_path / "i")
    for spec, code, words in (
        ("stdout", 2, "cannot be understood"),
        ("fd[99]:pipe:[1]", 2, "no descriptor 99"),
        ("fd[1]:pipe:[1]", 50, "no task of the image"),
    ):
        error = run("restore", "-D", str(tmp_path / "i"), "--inherit-fd", spec, code=code)["error"]
        assert isinstance(error, dict) and words in error["message"]
