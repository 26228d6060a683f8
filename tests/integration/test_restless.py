"""Targets that do not hold still, cannot be had, or are not who they were: what ckpt says, and that they go on.

root: on for some (another user's task, chosen pids); guest: off (interpreters under emulation take minutes).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

import ckpt
from ckpt.errors import FreezeTimeout
from ckpt.kernel import procfs
from ckpt.trace import freezer, release
from tests.integration.test_trouble import DRIVER
from tests.support.programs import need

pytestmark = pytest.mark.timeout(300)
ROOT = Path(__file__).resolve().parent.parent.parent
WAIT = 60.0

PRELUDE = """
import ctypes, os, signal, subprocess, sys, threading, time
libc = ctypes.CDLL(None, use_errno=True)
def say(text):
    with open(sys.argv[1] + ".new", "w") as f:
        f.write(str(text))
    os.rename(sys.argv[1] + ".new", sys.argv[1])
"""


@contextmanager
def running(code: str, place: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A Python program in a session of its own that counts up in the file `place`; killed with its session."""
    process = subprocess.Popen(
        [sys.executable, "-S", "-c", PRELUDE + code, str(place)],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        eventually(place.exists, process)
        yield process
    finally:
        process.kill()
        process.wait()
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    if procfs.stat(int(entry.name)).sid == process.pid:
                        os.kill(int(entry.name), signal.SIGKILL)
                except (ckpt.CkptError, ProcessLookupError):
                    continue


def eventually(condition: Any, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + WAIT
    while not condition():
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.01)


def check_goes_on(process: subprocess.Popen[bytes], place: Path) -> None:
    assert procfs.status(process.pid)["TracerPid"] == "0"
    before = place.read_text()
    eventually(lambda: place.read_text() != before, process)


def refused(code: int, *arguments: object, hint: bool = True) -> dict[str, Any]:
    """The error object of a command that ends with `code`."""
    done = subprocess.run(
        [sys.executable, "-m", "ckpt", *map(str, arguments), "--json"],
        capture_output=True, text=True, timeout=WAIT, stdin=subprocess.DEVNULL, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    error = json.loads(done.stderr)["error"]
    assert set(error) >= {"type", "message", "hint", "exit_code"} and error["exit_code"] == code
    assert error["message"] and (error["hint"] or not hint), error
    return dict(error)


FORKS = """
n = 0
while True:
    children = [os.fork() for _ in range(1)]
    if 0 in children:
        grandchild = os.fork()
        if grandchild:
            os.waitpid(grandchild, 0)
        os._exit(0)
    for pid in children:
        os.waitpid(pid, 0)
    n += 1
    say(n)
"""

THREADS = """
n = 0
while True:
    made = [threading.Thread(target=time.sleep, args=(0.0001,)) for _ in range(4)]
    for one in made:
        one.start()
    for one in made:
        one.join()
    n += 1
    say(n)
"""

PIPES = """
n, born = 0, []
while True:
    out, into = os.pipe()
    pid = os.fork()
    if pid == 0:
        time.sleep(0.1)
        os.write(into, b"x")
        os._exit(0)
    os.close(into)
    born.append((pid, out))
    if len(born) > 30:
        pid, out = born.pop(0)
        assert os.read(out, 2) == b"x" and os.waitpid(pid, 0)[1] == 0
        os.close(out)
        n += 1
        say(n)
"""


@pytest.mark.parametrize("program", [FORKS, THREADS, PIPES], ids=["forks", "threads", "pipes"])
def test_a_tree_that_is_never_the_same(tmp_path: Path, program: str) -> None:
    with running(program, tmp_path / "n") as target:
        for number in range(8):
            if number % 4 == 3:
                made = ckpt.dump(target.pid, tmp_path / "chain", leave="running")
            else:
                made = ckpt.pre_dump(target.pid, tmp_path / "chain")
            assert made.header.round == number + 1
            check_goes_on(target, tmp_path / "n")
        assert ckpt.verify(tmp_path / "chain").ok


VFORK = """
def count():
    n = 0
    while True:
        n += 1
        say(n)
        time.sleep(0.01)
threading.Thread(target=count, daemon=True).start()
time.sleep(0.1)
# CLONE_VFORK without CLONE_VM: the parent waits in the kernel until the child, an ordinary one, is gone.
pid = libc.syscall(56, 0x4000 | 17, 0, 0, 0, 0)
if pid == 0:
    time.sleep(1000)  # it is killed with its session
    os._exit(0)
os.waitpid(pid, 0)
while True:
    time.sleep(1)
"""


def test_a_task_that_cannot_stop_is_let_go_of(tmp_path: Path) -> None:
    with running(VFORK, tmp_path / "n") as target:
        eventually(lambda: procfs.stat(target.pid, target.pid).state == "D", target)
        with pytest.raises(FreezeTimeout):
            ckpt.pre_dump(target.pid, tmp_path / "api", timeout=0.3)
        error = refused(23, "dump", "-t", target.pid, "-D", tmp_path / "chain", "--timeout", "0.3")
        assert "vfork" in error["message"]
        assert not (tmp_path / "chain").exists() and not (tmp_path / "api").exists()
        check_goes_on(target, tmp_path / "n")


def test_who_goes_into_vfork_in_the_freeze_keeps_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It can be let go of when its child has been."""
    need("gcc")
    program, place = tmp_path / "vforks", tmp_path / "n"
    subprocess.run(["gcc", "-O1", "-pthread", "-o", program, ROOT / "tests/programs/vforks.c"], check=True)
    monkeypatch.setattr(release, "_DETACH_PATIENCE", 15.0)
    with subprocess.Popen([program, place], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as target:
        try:
            eventually(place.exists, target)
            for _ in range(12):
                assert ckpt.pre_dump(target.pid, tmp_path / "chain").statistics.frozen_time < 10_000_000
                check_goes_on(target, place)
        finally:
            os.kill(target.pid, signal.SIGKILL)  # Popen.kill() takes a stop of one that is still traced for its end


VFORK_IN_CHILD = """
if os.fork() == 0:
    if libc.syscall(56, 0x4100 | 17, 0, 0, 0, 0) == 0:  # CLONE_VFORK | CLONE_VM
        time.sleep(1000)
n = 0
while True:
    n += 1
    say(n)
    time.sleep(0.01)
"""


def test_a_task_that_ends_while_it_waits_in_vfork(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was found waiting, and both were over before the freeze came to its child: make starts dozens of such."""
    with running(VFORK_IN_CHILD, tmp_path / "n") as target:
        eventually(lambda: procfs.children(target.pid, [target.pid]), target)
        (waiting,) = procfs.children(target.pid, [target.pid])
        eventually(lambda: procfs.stat(waiting, waiting).state == "D", target)
        (child,) = procfs.children(waiting, [waiting])
        look = freezer._Freeze._new_tasks

        def late(self: freezer._Freeze) -> list[int]:
            if waiting in self._tree.tasks:
                for pid in (waiting, child):
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                eventually(lambda: procfs.state(waiting) == "Z", target)
            return look(self)

        monkeypatch.setattr(freezer._Freeze, "_new_tasks", late)
        with freezer.freeze(target.pid, timeout=WAIT) as tree:
            assert (list(tree.tasks), tree.zombies) == ([target.pid], [waiting])
        ckpt.pre_dump(target.pid, tmp_path / "chain")
        check_goes_on(target, tmp_path / "n")


COUNT = """
heap = bytearray(os.urandom(1 << 20)) * 4
n = 0
while True:
    n += 1
    say(n)
    time.sleep(0.005)
    if os.path.exists(sys.argv[1] + ".exec"):
        os.unlink(sys.argv[1] + ".exec")
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
"""


def test_another_program_in_the_same_task_means_a_full_round(tmp_path: Path) -> None:
    with running(COUNT, tmp_path / "n") as target:
        ckpt.pre_dump(target.pid, tmp_path / "chain")
        second = ckpt.pre_dump(target.pid, tmp_path / "chain").statistics
        assert second.pages_skipped_parent > second.pages_written
        before = procfs.stat(target.pid).start_stack
        (tmp_path / "n.exec").touch()
        eventually(lambda: procfs.stat(target.pid).start_stack != before, target)
        (tmp_path / "n").unlink()
        eventually((tmp_path / "n").exists, target)
        ckpt.dump(target.pid, tmp_path / "chain", leave="running")
        assert ckpt.verify(tmp_path / "chain").ok
        check_goes_on(target, tmp_path / "n")


TRACER = """
import ctypes, sys, time
assert ctypes.CDLL(None).ptrace(0x4206, int(sys.argv[1]), None, None) == 0
print(flush=True)
time.sleep(100)
"""
HOLDER = """
import fcntl, sys, time
held = open(sys.argv[1])
fcntl.flock(held, fcntl.LOCK_EX)
print(flush=True)
time.sleep(100)
"""


def test_who_cannot_be_dumped(tmp_path: Path) -> None:
    chain = tmp_path / "chain"
    refused(21, "dump", "-t", 4194303, "-D", chain)
    refused(21, "dump", "-t", 0, "-D", chain)
    refused(2, "dump", "-t", "all", "-D", chain)
    with running(COUNT, tmp_path / "n") as target:
        thread_of = procfs.threads(target.pid)
        assert thread_of == [target.pid]
        if os.getuid() == 0:
            done = subprocess.run(
                ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", sys.executable, "-c",
                 f"import ckpt; ckpt.dump({target.pid}, '/tmp/ckpt-nobody-{target.pid}')"],
                capture_output=True, text=True, cwd=ROOT,
            )  # fmt: skip
            assert "NotPermitted" in done.stderr or "Permission denied" in done.stderr, done.stderr
            assert not Path(f"/tmp/ckpt-nobody-{target.pid}").exists()
        other = ckpt.pre_dump(target.pid, chain)
        assert other.header.round == 1
        with running(COUNT, tmp_path / "m") as second:
            assert "not of task" in refused(42, "dump", "-t", second.pid, "-D", chain)["message"]
            check_goes_on(second, tmp_path / "m")
        tracer = subprocess.Popen([sys.executable, "-c", TRACER, str(target.pid)], stdout=subprocess.PIPE)
        try:
            assert tracer.stdout is not None
            tracer.stdout.readline()
            assert str(tracer.pid) in refused(22, "dump", "-t", target.pid, "-D", tmp_path / "new")["hint"]
        finally:
            tracer.kill()
            tracer.communicate()
        assert not (tmp_path / "new").exists()
        check_goes_on(target, tmp_path / "n")


def test_the_shell_that_runs_ckpt_is_in_the_tree(tmp_path: Path) -> None:
    script = f'"{sys.executable}" -m ckpt dump -t $$ -D "{tmp_path}/chain" --json; echo $?'
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, cwd=ROOT, timeout=WAIT)
    assert done.stdout == "20\n" and "inside the tree" in done.stderr
    assert not (tmp_path / "chain").exists()


def test_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    with running(COUNT, tmp_path / "n") as target:
        for place in (tmp_path / "file", tmp_path / "file" / "below", "/proc/nowhere"):
            refused(40, "pre-dump", "-t", target.pid, "-D", place)
        check_goes_on(target, tmp_path / "n")
    for number, verb in enumerate((["verify"], ["restore"], ["show"], ["merge", "-o", tmp_path / "out"])):
        refused(40, *verb, "-D", tmp_path / ("none", "empty")[number % 2 * (verb != ["show"])])
    assert not (tmp_path / "out").exists() and not (tmp_path / "none").exists()


def test_two_at_a_time(tmp_path: Path) -> None:
    with running(COUNT, tmp_path / "n") as target:
        ckpt.pre_dump(target.pid, tmp_path / "chain")
        lock = str(tmp_path / "chain" / "lock")
        holder = subprocess.Popen([sys.executable, "-c", HOLDER, lock], stdout=subprocess.PIPE)
        try:
            assert holder.stdout is not None
            holder.stdout.readline()
            refused(43, "dump", "-t", target.pid, "-D", tmp_path / "chain")
            assert ckpt.verify(tmp_path / "chain").ok
        finally:
            holder.kill()
            holder.communicate()
        check_goes_on(target, tmp_path / "n")


# ---------------------------------------------------------------- precopy

HOT = """
heap = bytearray(os.urandom(1 << 20)) * 24
n = 0
while True:
    for at in range(0, len(heap), 4096):
        heap[at] = n & 255
    n += 1
    say(n)
"""


def lines_of(process: subprocess.Popen[str]) -> Iterator[dict[str, Any]]:
    assert process.stderr is not None
    for line in process.stderr:
        yield json.loads(line)


def precopy(*arguments: object, start: tuple[str, ...] = ("-m", "ckpt")) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *start, "precopy", *map(str, arguments), "--json", "--progress", "json"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, cwd=ROOT,
    )  # fmt: skip


def test_precopy_tells_of_every_round_and_why_it_stops(tmp_path: Path) -> None:
    with running(HOT, tmp_path / "n") as target:
        process = precopy("-t", target.pid, "-D", tmp_path / "chain", "--max-rounds", 3, "--leave-running")
        with process:
            found = list(lines_of(process))
            assert process.wait(WAIT) == 0 and process.stdout is not None
            images = json.loads(process.stdout.read())["images"]
        rounds = [line["round"] for line in found if "round" in line]
        assert [one["image_id"] for one in rounds] == [one["image_id"] for one in images]
        assert images[-1]["kind"] == "dump" and {one["kind"] for one in images[:-1]} == {"pre-dump"}
        assert sum("stopped" in line for line in found) == 1
        assert any("progress" in line for line in found)
        check_goes_on(target, tmp_path / "n")


def test_ctrl_c_in_a_precopy_leaves_a_chain_and_a_running_target(tmp_path: Path) -> None:
    with running(HOT, tmp_path / "n") as target:
        # In the copy of the second round: a signal from here may come when the precopy is over, and the target ended.
        start = ("-c", DRIVER, "SIGINT", "ckpt.engine.round:_Round._copy", "2", "0")
        process = precopy("-t", target.pid, "-D", tmp_path / "chain", "--downtime-limit", "0.001", start=start)
        with process:
            found = list(lines_of(process))
        assert sum("round" in line for line in found) == 1, found
        assert process.wait(WAIT) == 130 and found[-1]["error"]["exit_code"] == 130, found
        check_goes_on(target, tmp_path / "n")
        rounds = ckpt.show(tmp_path / "chain")
        assert len(rounds) == 1 and all(one.header.kind == "pre-dump" for one in rounds)
        assert not [path for path in (tmp_path / "chain").iterdir() if path.name.startswith(".")]
        made = ckpt.dump(target.pid, tmp_path / "chain", leave="running")
        assert made.header.round == len(rounds) + 1 and ckpt.verify(tmp_path / "chain").ok
