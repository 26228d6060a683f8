"""Skeletons: bare tasks with wanted pids that run system calls."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from ckpt.errors import KernelError, NoSuchTask
from ckpt.kernel import procfs, uapi, uapi_restore
from ckpt.kernel import ptrace_requests as ptrace
from ckpt.trace.skeleton import BLOCK_SIZE, Skeleton, reap
from ckpt.trace.spawn import spawn_skeleton

pytestmark = pytest.mark.root

STUB = 0x1000_0000


def free_pid() -> int:
    """A pid that was free a moment ago."""
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    return child


def runs(pid: int) -> bool:
    try:
        return procfs.stat(pid).state != "Z"
    except NoSuchTask:
        return False


@contextmanager
def skeleton(pid: int = 0) -> Iterator[Skeleton]:
    made = spawn_skeleton(pid, STUB)
    try:
        yield made
    finally:
        made.kill()
        reap([made])


def test_has_the_wanted_pid_and_nothing_else() -> None:
    pid = free_pid()
    with skeleton(pid) as task:
        assert task.pid == pid
        assert task.syscall(uapi.SYS_getpid) == pid
        foreign = [
            line
            for line in procfs.maps(pid)
            if not STUB <= line.start < STUB + BLOCK_SIZE and not line.path.startswith(("[vdso", "[vvar", "[vsys"))
        ]
        assert foreign == []
        assert os.listdir(f"/proc/{pid}/fd") == []
        status = procfs.status(pid)
        assert int(status["SigIgn"], 16) == 0
        assert status["PPid"] == str(os.getpid())


def test_taken_pid_is_refused() -> None:
    with pytest.raises(KernelError) as caught:
        spawn_skeleton(os.getpid(), STUB)
    assert caught.value.errno == 17


def test_calls_give_results_and_errors() -> None:
    with skeleton() as task:
        with pytest.raises(KernelError) as caught:
            task.syscall(uapi.SYS_fchdir, 77)
        assert caught.value.errno == 9
        address = task.syscall(uapi.SYS_mmap, 0, 8192, 3, uapi.MAP_PRIVATE | uapi.MAP_ANONYMOUS, -1, 0)
        task.write(address, b"abc")
        assert task.read(address, 3) == b"abc"
        task.step_calls()
        assert task.syscall(uapi.SYS_getpid) == task.pid
        assert task.put(b"12345678", 64) == task.scratch + 64


def test_signals_wait() -> None:
    with skeleton() as task:
        for number in (signal.SIGTERM, signal.SIGTRAP, signal.SIGSTOP, signal.SIGUSR1):
            os.kill(task.pid, number)
            assert task.syscall(uapi.SYS_getpid) == task.pid
        task.step_calls()
        os.kill(task.pid, signal.SIGSTOP)
        assert task.syscall(uapi.SYS_getpid) == task.pid


def test_children_and_threads() -> None:
    with skeleton() as task:
        wanted, tid = free_pid(), free_pid()
        child = task.clone(wanted, 0, signal.SIGCHLD)
        assert child.syscall(uapi.SYS_getpid) == wanted
        assert procfs.stat(wanted).ppid == task.pid
        while tid == wanted or procfs.exists(tid):
            tid += 1
        flags = uapi.CLONE_VM | uapi.CLONE_FS | uapi.CLONE_FILES | uapi.CLONE_SIGHAND | uapi.CLONE_THREAD
        thread = child.clone(tid, flags | uapi.CLONE_SYSVSEM)
        assert thread.syscall(uapi.SYS_gettid) == tid
        assert thread.syscall(uapi.SYS_getpid) == wanted
        assert procfs.threads(wanted) == [wanted, tid]
        child.kill()
        reap([child, thread])


@pytest.mark.parametrize("status", [0, 7 << 8, signal.SIGTERM, signal.SIGSEGV])
def test_exit_leaves_a_zombie_with_that_status(status: int) -> None:
    with skeleton() as task:
        child = task.clone(0, 0, signal.SIGCHLD)
        child.exit(status)
        assert procfs.stat(child.pid).state == "Z"
        address = task.put(bytes(8))
        assert task.syscall(uapi_restore.SYS_wait4, child.pid, address, 0x40000000, 0) == child.pid
        assert int.from_bytes(task.read(address, 4), "little") == status


def test_a_dead_ckpt_leaves_nothing() -> None:
    program = (
        "import os, signal; from ckpt.trace.spawn import spawn_skeleton\n"
        f"root = spawn_skeleton(0, {STUB}); child = root.clone(0, 0, 17)\n"
        "print(root.pid, child.pid, flush=True); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == -signal.SIGKILL, done.stderr
    pids = [int(word) for word in done.stdout.split()]
    end = time.monotonic() + 30
    while any(runs(pid) for pid in pids):
        assert time.monotonic() < end
        time.sleep(0.01)


def test_ckpt_dies_before_the_newborn_has_run() -> None:
    """When the newborn asks to be killed with ckpt, nobody is left to be killed with."""
    code = f"from ckpt.trace import stub; input(); stub.start(0, {STUB})"
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, cwd=root) as maker:
        try:
            assert maker.stdin is not None
            ptrace.seize(maker.pid, uapi.PTRACE_O_TRACEVFORK)
            maker.stdin.write(b"\n")
            maker.stdin.flush()
            while os.waitpid(maker.pid, uapi_restore.WALL)[1] >> 16 != uapi.PTRACE_EVENT_VFORK:
                ptrace.cont(maker.pid, 0)
            newborn = ptrace.geteventmsg(maker.pid)
            os.waitpid(newborn, uapi_restore.WALL)
        finally:
            maker.kill()
    assert runs(newborn)
    ptrace.detach(newborn, 0)
    try:
        end = time.monotonic() + 30
        while runs(newborn):
            assert time.monotonic() < end, "it waits for ever"
            time.sleep(0.01)
    finally:
        with suppress(ProcessLookupError):
            os.kill(newborn, signal.SIGKILL)
