"""Restores that must not happen: each is refused by name, and leaves no task behind."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from ckpt import chain
from ckpt.engine.restore import restore, restore_view
from ckpt.engine.rounds import dump, pre_dump
from ckpt.errors import FileChanged, HostMismatch, ImageError, PidTaken, RestoreError
from ckpt.kernel import procfs
from ckpt.records.base import Record
from tests.support.restore_targets import Target, become_subreaper, target

pytestmark = pytest.mark.root

PROGRAM = """
data = mmap.mmap(os.open(sys.argv[1] + ".mapped", os.O_RDWR | os.O_CREAT), 0, mmap.MAP_PRIVATE)
child = os.fork()
if child == 0:
    while True: signal.pause()
threading.Thread(target=signal.pause, daemon=True).start()
wait()
sys.exit(0)
"""


LOCK = """
import ctypes
libc = ctypes.CDLL(None)
file = os.open(sys.argv[1] + ".lock", os.O_RDWR | os.O_CREAT)
os.truncate(file, 4096)
area = mmap.mmap(file, 4096)
lock, kind = (ctypes.c_char * 40).from_buffer(area), ctypes.create_string_buffer(8)
libc.pthread_mutexattr_init(kind)
libc.pthread_mutexattr_setpshared(kind, 1)
libc.pthread_mutexattr_setrobust(kind, 1)
libc.pthread_mutex_init(lock, kind)
libc.pthread_mutex_lock(lock)
wait()
sys.exit(libc.pthread_mutex_unlock(lock))
"""


@pytest.fixture(autouse=True)
def _subreaper() -> Iterator[None]:
    with become_subreaper():
        yield


@pytest.fixture
def dumped(tmp_path: Path) -> Iterator[Target]:
    (tmp_path / "target.mapped").write_bytes(b"z" * 8192)
    with target(PROGRAM, tmp_path) as made:
        dump(made.pid, made.images)
        made.gone()
        made.others = children()
        yield made


class Changed:
    """A view whose records of one kind are replaced."""

    def __init__(self, view: chain.View, name: str, records: Sequence[Record]) -> None:
        self._view = view
        self._name = name
        self._records = records

    def records(self, name: str) -> Sequence[Record]:
        return self._records if name == self._name else self._view.records(name)

    def __getattr__(self, name: str) -> object:
        return getattr(self._view, name)


def nothing_left(made: Target) -> bool:
    """No number of the tree is in use, and this process has no new child."""
    assert [pid for pid in made.pids if procfs.exists(pid)] == []
    return children() == made.others


def children() -> set[int]:
    return set(procfs.children(os.getpid(), procfs.threads(os.getpid())))


def test_pid_taken(dumped: Target) -> None:
    first = restore(dumped.images)
    dumped.pids |= set(first.pids)
    with pytest.raises(PidTaken, match=rf"pid {dumped.pid} is in use by process {dumped.pid} \(python"):
        restore(dumped.images)
    os.kill(first.pid, signal.SIGUSR1)
    assert first.wait() == 0


def test_pre_dump_alone(tmp_path: Path) -> None:
    (tmp_path / "target.mapped").write_bytes(b"z" * 8192)
    with target(PROGRAM, tmp_path) as made:
        pre_dump(made.pid, made.images)
        with pytest.raises(ImageError, match="pre-dump") as caught:
            restore(made.images)
        assert caught.value.hint


@pytest.mark.parametrize("change", ["rewrite", "remove"])
def test_mapped_file_changed(dumped: Target, tmp_path: Path, change: str) -> None:
    path = tmp_path / "target.mapped"
    if change == "rewrite":
        path.write_bytes(b"y" * 8200)
    else:
        path.unlink()
    with pytest.raises(FileChanged, match=r"target\.mapped"):
        restore(dumped.images)
    assert nothing_left(dumped)


def test_foreign_vdso(dumped: Target) -> None:
    with chain.view(dumped.images) as view:
        mms = [replace(mm, vdso_hash=b"x" * 16) for mm in view.records("mm")]
        with pytest.raises(HostMismatch, match="vdso"):
            restore_view(Changed(view, "mm", mms))  # type: ignore[arg-type]
    assert nothing_left(dumped)


def test_foreign_cpu(dumped: Target) -> None:
    with chain.view(dumped.images) as view:
        threads = []
        for thread in view.records("thread"):
            area = bytearray(thread.registers.xstate)
            area[519] |= 0x40  # XSTATE_BV bit 62
            threads.append(replace(thread, registers=replace(thread.registers, xstate=bytes(area))))
        with pytest.raises(HostMismatch, match="extended registers"):
            restore_view(Changed(view, "thread", threads))  # type: ignore[arg-type]
    assert nothing_left(dumped)


def test_a_lock_in_a_file_is_still_held(tmp_path: Path) -> None:
    """The kernel marks robust locks of a thread that is killed; one that is half restored has none."""
    with target(LOCK, tmp_path) as made:
        path = tmp_path / "target.lock"
        before = path.read_bytes()
        assert int.from_bytes(before[:4], "little") == made.pid
        dump(made.pid, made.images)
        made.gone()
        assert path.read_bytes() == before
        with chain.view(made.images) as view:
            threads = [replace(thread, pdeathsig=9999) for thread in view.records("thread")]
            with pytest.raises(RestoreError):
                restore_view(Changed(view, "thread", threads))  # type: ignore[arg-type]
        assert path.read_bytes() == before
        restored = restore(made.images)
        os.kill(restored.pid, signal.SIGUSR1)
        assert restored.wait() == 0


def test_a_damaged_page_is_the_images_fault(dumped: Target) -> None:
    (path,) = dumped.images.glob("*.ckpt")
    whole = path.read_bytes()
    middle = len(whole) // 2
    path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
    with pytest.raises(ImageError, match=r"task \d+: its memory: .*is damaged"):
        restore(dumped.images)
    assert nothing_left(dumped)
    path.write_bytes(whole)
    again = restore(dumped.images)
    dumped.pids |= set(again.pids)
    os.kill(again.pid, signal.SIGUSR1)
    assert again.wait() == 0


def _bad_directory(view: chain.View) -> Changed:
    tasks = list(view.records("task"))
    tasks[-1] = replace(tasks[-1], fs=replace(tasks[-1].fs, cwd="/nowhere/at/all"))
    return Changed(view, "task", tasks)


def _bad_exe(view: chain.View) -> Changed:
    mms = list(view.records("mm"))
    mms[-1] = replace(mms[-1], exe_file_id=999999)
    return Changed(view, "mm", mms)


def _bad_auxv(view: chain.View) -> Changed:
    mms = list(view.records("mm"))
    mms[-1] = replace(mms[-1], start_stack=1)
    return Changed(view, "mm", mms)


def _bad_thread(view: chain.View) -> Changed:
    threads = list(view.records("thread"))
    credentials = replace(threads[-1].credentials, cap_prm=1 << 62)
    threads[-1] = replace(threads[-1], credentials=credentials)
    return Changed(view, "thread", threads)


@pytest.mark.parametrize(
    ("forge", "words"),
    [
        (_bad_directory, "working directory /nowhere"),
        (_bad_exe, "executable"),
        (_bad_auxv, "PR_SET_MM_MAP"),
        (_bad_thread, "capabilities"),
    ],
)
def test_a_failure_half_way_leaves_nothing(dumped: Target, forge: object, words: str) -> None:
    with chain.view(dumped.images) as view:
        before = len(os.listdir("/proc/self/fd"))
        with pytest.raises(RestoreError, match=words):
            restore_view(forge(view))  # type: ignore[operator]
        assert len(os.listdir("/proc/self/fd")) == before
    assert nothing_left(dumped)
    again = restore(dumped.images)  # and nothing is in the way of the next attempt
    dumped.pids |= set(again.pids)
    os.kill(again.pid, signal.SIGUSR1)
    assert again.wait() == 0


def test_pid_file_of_a_failed_restore(dumped: Target, tmp_path: Path) -> None:
    with pytest.raises(RestoreError, match="pid file") as caught:
        restore(dumped.images, pidfile=tmp_path / "no" / "such" / "place")
    assert "--pidfile" in (caught.value.hint or "")
    assert nothing_left(dumped)
