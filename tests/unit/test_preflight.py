"""Numbers that a restore needs: a living holder is refused at once, a zombie is given time to be reaped."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from ckpt.engine.preflight import check_numbers
from ckpt.errors import PidTaken
from ckpt.kernel import procfs


@pytest.fixture
def zombie() -> Iterator[subprocess.Popen[bytes]]:
    child = subprocess.Popen([sys.executable, "-c", ""], start_new_session=True)
    end = time.monotonic() + 60
    while procfs.stat(child.pid).state != "Z":
        assert time.monotonic() < end, "the child does not end"
        time.sleep(0.001)
    yield child
    child.wait()


def test_living_holder() -> None:
    started = time.monotonic()
    with pytest.raises(PidTaken, match=f"pid {os.getpid()} is in use by process {os.getpid()}"):
        check_numbers([os.getpid()], patience=60)
    assert time.monotonic() - started < 30


def test_zombie_is_waited_for(zombie: subprocess.Popen[bytes]) -> None:
    reaper = threading.Timer(0.2, zombie.wait)
    reaper.start()
    check_numbers([zombie.pid], patience=60)
    reaper.join()
    assert zombie.returncode == 0


def test_zombie_that_nobody_reaps(zombie: subprocess.Popen[bytes]) -> None:
    with pytest.raises(PidTaken, match="is a zombie") as caught:
        check_numbers([zombie.pid], patience=0.05)
    assert f"process {os.getpid()}" in str(caught.value.hint)


def test_thread_of_another_process() -> None:
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    try:
        with pytest.raises(PidTaken, match=f"pid {thread.native_id} is in use by a thread of process {os.getpid()}"):
            check_numbers([thread.native_id or 0])
    finally:
        done.set()
        thread.join()
