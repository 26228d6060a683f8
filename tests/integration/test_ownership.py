"""Rounds of root and of a plain user in one directory: whose the images are, and that either can go on.

root: on (it acts as both); guest: off.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ckpt.kernel import features
from tests.support.commands import REPOSITORY
from tests.support.programs import until

USER = 65534
WHO: dict[str, Any] = {"user": USER, "group": USER, "extra_groups": []}
COUNT = (
    "import sys, time\nn = 0\nwhile True:\n    n += 1\n    open(sys.argv[1], 'w').write(str(n))\n    time.sleep(0.01)"
)
pytestmark = [pytest.mark.root, pytest.mark.timeout(300)]


@pytest.fixture(autouse=True)
def _root() -> None:
    if os.geteuid():
        pytest.skip("needs root")
    command = [sys.executable, "-B", "-m", "ckpt", "--version"]
    if subprocess.run(command, cwd=REPOSITORY, stdout=subprocess.DEVNULL, check=False, **WHO).returncode:
        pytest.skip("another user cannot run this interpreter or read this checkout")


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory of that user, where he can reach it."""
    with tempfile.TemporaryDirectory(prefix="ckpt-owner-") as name:
        os.chown(name, USER, USER)
        yield Path(name)


def ckpt(who: dict[str, Any], *words: object, code: int = 0) -> dict[str, Any]:
    command = [sys.executable, "-B", "-m", "ckpt", *map(str, words), "--json"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False, **who)
    assert done.returncode == code, (words, done.stdout, done.stderr)
    return json.loads(done.stdout if not code else done.stderr)  # type: ignore[no-any-return]


def counting(said: Path, who: dict[str, Any], first: str = "") -> subprocess.Popen[bytes]:
    null = subprocess.DEVNULL
    command = [sys.executable, "-S", "-c", f"{first}\n{COUNT}", str(said)]
    started = subprocess.Popen(command, stdin=null, stdout=null, stderr=null, start_new_session=True, **who)
    until(said.exists, "it counts")
    return started


def test_root_and_the_user_take_turns(place: Path) -> None:
    """Each goes on with the other's rounds as deltas, also when the tree is in a namespace; all files are his."""
    images, task = place / "images", counting(place / "n", WHO)
    images.mkdir()
    os.chown(images, USER, USER)
    pid, killed = task.pid, task.pid
    try:
        for cycle, restorer in enumerate(({"user": USER} if features.probe("user-namespace").available else {}, {})):
            for number, who in enumerate(({}, WHO, {}, WHO)):
                made = ckpt(who, "pre-dump", "-t", killed, "-D", images)
                assert made["full_reason"] is None or not number, made
            ckpt({} if cycle else WHO, "dump", "-t", killed, "-D", images)
            task.wait()
            assert {os.stat(path).st_uid for path in images.iterdir()} == {USER}
            ckpt(WHO, "verify", "-D", images)
            assert ckpt(WHO, "show", "-D", images)
            said = (place / "n").stat().st_mtime_ns  # it stays: the task may have had it open
            back = ckpt(WHO if restorer else {}, "restore", "-D", images, "--detach")
            assert back["pid"] == pid
            killed = back.get("outside_pid") or pid
            until(lambda said=said: (place / "n").stat().st_mtime_ns > said, "it goes on")
    finally:
        os.kill(killed, signal.SIGKILL)


def test_what_a_user_may_not_see_stays_with_root(place: Path) -> None:
    task = counting(place / "n", {})
    try:
        ckpt({}, "pre-dump", "-t", task.pid, "-D", place)
        assert (place / "0001.ckpt").stat().st_uid == 0
        assert (place / "lock").stat().st_uid == (place / "journal").stat().st_uid == USER
        error = ckpt(WHO, "show", "-D", place, code=30)["error"]
        assert "belongs to user 0" in error["hint"]
    finally:
        task.kill()
        task.wait()


def test_links_lead_root_nowhere(place: Path) -> None:
    """Who owns the directory may lay links in it where root is about to write."""
    with tempfile.TemporaryDirectory(prefix="ckpt-victim-") as name:
        victim, task = Path(name) / "file", counting(place / "n", WHO)
        victim.write_text("precious")
        try:
            (place / ".journal.tmp").symlink_to(victim)
            (place / ".0001.ckpt.tmp").symlink_to(victim)
            ckpt({}, "pre-dump", "-t", task.pid, "-D", place)
            (place / "lock").unlink()
            (place / "lock").symlink_to(Path(name) / "made")
            ckpt({}, "pre-dump", "-t", task.pid, "-D", place, code=40)
            assert victim.read_text() == "precious" and os.listdir(name) == ["file"]
        finally:
            task.kill()
            task.wait()


def test_a_merge_by_root_is_the_users(place: Path) -> None:
    task = counting(place / "n", WHO)
    images = place / "images"
    ckpt(WHO, "dump", "-t", task.pid, "-D", images)
    task.wait()
    ckpt({}, "merge", "-D", images, "-o", place / "one.ckpt")
    ckpt({}, "merge", "-D", images, "-o", place / "chain")
    for made in (place / "one.ckpt", place / "chain"):
        assert ckpt(WHO, "verify", "-D", made)


@pytest.mark.parametrize("of_root", ["0001.ckpt", "0002.ckpt"])
def test_a_merge_with_an_image_of_roots_is_roots(place: Path, of_root: str) -> None:
    """What is in it came from both."""
    task, images = counting(place / "n", WHO), place / "images"
    ckpt(WHO, "pre-dump", "-t", task.pid, "-D", images)
    ckpt(WHO, "dump", "-t", task.pid, "-D", images)
    task.wait()
    os.chown(images / of_root, 0, 0)
    ckpt({}, "merge", "-D", images, "-o", place / "one.ckpt")
    ckpt({}, "merge", "-D", images, "-o", place / "chain")
    assert {(place / "one.ckpt").stat().st_uid, (place / "chain").stat().st_uid} == {0}


@pytest.mark.parametrize(
    "code, who, said",
    [
        ("import ctypes; ctypes.CDLL(None).prctl(4, 0)", WHO, "not dumpable"),
        ("", {**WHO, "group": 12345}, "of group 12345"),
        ("", {**WHO, "user": 12345}, "of user 12345"),
    ],
)
def test_why_a_task_may_not_be_traced(place: Path, code: str, who: dict[str, Any], said: str) -> None:
    place.chmod(0o777)
    task = counting(place / "n", who, code)
    try:
        ckpt({}, "pre-dump", "-t", task.pid, "-D", place)
        assert (place / "0001.ckpt").stat().st_uid == 0, "what that user may not trace is not for him"
        error = ckpt(WHO, "doctor", "-t", task.pid, code=11)["error"]
        assert said in error["message"] and "root" in error["hint"]
    finally:
        task.kill()
        task.wait()
