"""Restores in other namespaces: without root in a user and pid namespace, as root in a pid or a time namespace.

Root runs the commands of the unprivileged tests as another user; anybody else runs them as himself.
"""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Container, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ckpt.engine import elsewhere
from ckpt.engine.doctor import dumpable
from ckpt.errors import TaskError
from ckpt.kernel import features, namespaces
from tests.support import harness, huge_pages, proc
from tests.support.commands import REPOSITORY, Done, commands
from tests.support.harness import MODES, Mode, Run, Target
from tests.support.programs import CLOCKS, telling, until

ROOT = os.geteuid() == 0
USER = 65534
pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(not features.probe("user-namespace").available, reason="no user namespaces"),
]

PLAIN = (
    "memory/private_anon", "memory/shared_anon", "memory/memfd_sealed", "memory/file_private", "memory/brk_heap",
    "files/append", "files/deleted", "files/flock", "files/proc_files", "pipes/data", "pipes/epoll", "pipes/eventfd",
    "signals/pending_realtime", "signals/alternate_stack", "timers/posix", "timers/timerfd_ticks", "threads/pool",
    "threads/locks_held", "processes/grandchildren", "processes/pool", "processes/zombie_code", "processes/sessions",
    "sockets/unix_stream", "sockets/tcp_listening", "sockets/unix_dgram", "ttys/pair", "ids/rlimits", "ids/umask_cwd",
    "memory/deleted_cold", "memory/memfd_parts", "memory/shared_grown", "memory/guards_in_shared",
    "files/names_elsewhere", "files/restless",
    "sockets/unix_full", "sockets/unix_seqpacket", "sockets/unix_rare_states", "sockets/udp", "sockets/udp_states",
    "sockets/udp_shut", "sockets/udp_groups",
)  # fmt: skip


@functools.cache
def unprivileged() -> dict[str, object]:
    """The arguments of subprocess that make a command another user's; skips when that user cannot run ckpt."""
    if not ROOT:
        return {}
    who: dict[str, object] = {"user": USER, "group": USER, "extra_groups": []}
    command = [sys.executable, "-B", "-m", "ckpt", "--version"]
    probe = subprocess.run(command, cwd=REPOSITORY, stdout=subprocess.DEVNULL, check=False, **who)
    if probe.returncode:
        pytest.skip("another user cannot run this interpreter or read this checkout")
    return who


class Elsewhere(Run):
    """A run whose restores are made with `options`; the root's pid is then another one here."""

    def __init__(self, target: Target, who: dict[str, object], options: tuple[str, ...]) -> None:
        super().__init__(target)
        self.who, self.options = who, options
        self.own_pid = 0
        log = self.work / "log"  # the target holds it open, and restore opens it as that user
        log.touch()
        log.chmod(0o666)

    def start(self) -> None:
        popen = subprocess.Popen
        try:
            subprocess.Popen = functools.partial(popen, **self.who)  # type: ignore[misc, assignment]
            super().start()
        finally:
            subprocess.Popen = popen  # type: ignore[misc]
        self.own_pid = self.pid

    def ckpt(self, *arguments: str, expect: Container[int] = (0,)) -> dict[str, object]:
        command = [sys.executable, "-B", "-m", "ckpt", *arguments, "--json"]
        streams = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True}
        done = subprocess.run(command, cwd=REPOSITORY, timeout=120, check=False, **streams, **self.who)
        self.history.append(f"$ ckpt {' '.join(arguments)} -> {done.returncode}\n{done.stdout}{done.stderr}"[-2500:])
        if done.returncode not in expect:
            self.fail(f"ckpt {arguments[0]} gave {done.returncode}")
        return json.loads(done.stdout or "{}")  # type: ignore[no-any-return]

    def restore(self, images: Path) -> None:
        pidfile = self.dir / "pid"
        answer = self.ckpt("restore", "-D", str(images), "--detach", "--pidfile", str(pidfile), *self.options)
        self.pid = int(pidfile.read_text())
        assert answer["pid"] == self.own_pid, "the pid inside is the old one"
        assert answer["outside_pid"] == self.pid
        assert namespaces.pid_inside(self.pid) == self.own_pid


def go_through(target: str, mode: Mode, who: dict[str, object], *options: str) -> None:
    path = next(t.path for t in harness.all_targets() if t.name == target)
    run = Elsewhere(Target(path), who, options)
    run.images.mkdir()
    run.images.chmod(0o777)
    proc.become_subreaper()
    try:
        run.start()
        for cycle in range(mode.cycles):
            images = run.images / str(cycle)
            run.take(mode, images)
            run.gone()
            run.restore(images)
            run.wait_for_ticks()
        run.expect_pass()
    except harness.TargetSkipped as skipped:
        pytest.skip(str(skipped))
    finally:
        run.close()
        proc.become_subreaper(False)


@pytest.mark.parametrize("target", PLAIN)
def test_without_root(target: str) -> None:
    go_through(target, MODES["pre-dump-1"], unprivileged())


@pytest.mark.skipif(not ROOT, reason="only root can allow huge pages")
@pytest.mark.parametrize("mode", ["pre-dump-1", "twice"])
def test_huge_pages_without_root(mode: str) -> None:
    with huge_pages.raised(16):
        go_through("memory/hugetlb_shared", MODES[mode], unprivileged())


@pytest.mark.parametrize(
    "target", ["threads/pool", "processes/grandchildren", "memory/shared_anon", "memory/sysv_shm", "ipc/messages"]
)
def test_twice_without_root(target: str) -> None:
    go_through(target, MODES["twice"], unprivileged())


@pytest.mark.skipif(not ROOT, reason="only root can put a command into other groups")
def test_twice_with_supplementary_groups() -> None:
    """Which have no numbers in the user namespace, and are those of the task all the same."""
    go_through("processes/grandchildren", MODES["twice"], {**unprivileged(), "extra_groups": [27, 100]})


@pytest.mark.parametrize("target", ["memory/memfd_private_closed", "ids/seccomp", "processes/vfork"])
def test_refused_without_root(target: str) -> None:
    """What this user cannot see is refused by name, and the task goes on."""
    path = next(t.path for t in harness.all_targets() if t.name == target)
    run = Elsewhere(Target(path), unprivileged(), ())
    run.images.mkdir()
    run.images.chmod(0o777)
    try:
        run.start()
        run.ckpt("dump", "-t", str(run.pid), "-D", str(run.images), expect=(25,))
        run.expect_pass()
    except harness.TargetSkipped as skipped:
        pytest.skip(str(skipped))
    finally:
        run.close()


@pytest.mark.skipif(not ROOT, reason="a pid namespace alone needs root")
@pytest.mark.parametrize(
    "target",
    [
        *("memory/shared_anon", "processes/sessions", "sockets/tcp_loopback", "ttys/session", "timers/left_to_sleep"),
        *("timers/overrun", "ipc/undo_of_many", "processes/vforks"),  # the kernel's memory is read
        *("ids/namespace_uts", "processes/leader_exited"),
    ],
)
def test_in_a_pid_namespace(target: str) -> None:
    go_through(target, MODES["twice"], {}, "--pidns")


@pytest.mark.skipif(not ROOT or not features.probe("time-namespace").available, reason="needs root and time namespaces")
@pytest.mark.parametrize(
    "target", ["timers/left_to_sleep", "timers/posix", "timers/timerfd_states", "processes/vforks"]
)
def test_in_a_time_namespace(target: str) -> None:
    go_through(target, MODES["twice"], {}, "--timens")


@pytest.fixture
def subreaper() -> Iterator[None]:
    proc.become_subreaper()
    yield
    proc.become_subreaper(False)


def test_the_init_of_a_detached_tree_outlives_a_ckpt_that_ends_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    die_with_parent = namespaces.die_with_parent

    def slowly(number: int) -> None:
        time.sleep(0 if number else 0.3)
        die_with_parent(number)

    monkeypatch.setattr(namespaces, "die_with_parent", slowly)
    reader, writer = os.pipe()
    proc.become_subreaper()
    child = os.fork()
    if not child:
        elsewhere.work_elsewhere(
            lambda: None,
            lambda _progress: None,
            seen=lambda pid, _result: [os.write(writer, b"%d" % pid)].clear(),
            stay=lambda _result: os._exit(signal.pause() or 0),
        )
        os._exit(0)
    os.waitpid(child, 0)
    worker = int(os.read(reader, 20))
    time.sleep(0.5)
    assert os.waitid(os.P_PID, worker, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None, "it was killed"
    os.kill(worker, signal.SIGKILL)
    os.waitpid(worker, 0)
    proc.become_subreaper(False)


@pytest.mark.skipif(not ROOT, reason="a pid namespace alone needs root")
def test_a_taken_pid_and_a_failure_at_the_last_moment(tmp_path: Path, subreaper: None) -> None:
    """The error names --pidns, which gives the tree the same pid; a pid file that cannot be written undoes it all."""
    before = inits()
    first, _ = telling(CLOCKS, tmp_path)
    try:

        def ckpt(*words: str) -> Done:
            return commands().run([*words, "-D", str(tmp_path / "i"), "--json"], tmp_path)

        assert ckpt("dump", "-t", str(first.pid), "--leave-running").returncode == 0
        taken = ckpt("restore", "--detach")
        assert taken.returncode == 51 and "--pidns" in json.loads(taken.stderr)["error"]["hint"]
        failed = ckpt("restore", "--detach", "--pidns", "--pidfile", "/nowhere/pid")
        assert failed.returncode == 50, failed.stderr
        until(lambda: not inits() - before, "no init is left")
        done = ckpt("restore", "--detach", "--pidns")
        answer = json.loads(done.stdout)
        assert answer["pid"] == first.pid != answer["outside_pid"] and answer["namespaces"] == ["pid"]
        assert namespaces.pid_inside(answer["outside_pid"]) == first.pid
        os.kill(answer["outside_pid"], signal.SIGKILL)
        until(lambda: not inits() - before, "no init is left")
    finally:
        first.kill()
        first.wait()


@pytest.mark.skipif(not ROOT, reason="a pid namespace alone needs root")
def test_the_directory_is_the_callers(tmp_path: Path, subreaper: None) -> None:
    """A round of a tree with mounts of its own counts a path from where ckpt was called, and finds no other by it."""
    later, before = tmp_path / "later", inits()
    later.mkdir()
    first, _ = telling(CLOCKS, tmp_path)

    def ckpt(where: Path, *words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-B", "-m", "ckpt", *words, "--json"]
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
        return subprocess.run(command, cwd=where, env=environment, capture_output=True, text=True, check=False)

    try:
        assert ckpt(tmp_path, "dump", "-t", str(first.pid), "-D", "images").returncode == 0
        done = ckpt(tmp_path, "restore", "-D", "images", "--detach", "--pidns")
        pid = json.loads(done.stdout)["outside_pid"]
        done = ckpt(tmp_path, "pre-dump", "-t", str(pid), "-D", "relative")
        assert done.returncode == 0, done.stderr
        assert sorted(path.name for path in (tmp_path / "relative").iterdir()) == ["0001.ckpt", "journal", "lock"]
        subprocess.run(["mount", "-t", "tmpfs", "none", str(later)], check=True)
        try:
            done = ckpt(tmp_path, "pre-dump", "-t", str(pid), "-D", str(later / "chain"))
            assert done.returncode == 40 and "leads elsewhere" in done.stderr
            done = ckpt(later, "pre-dump", "-t", str(pid), "-D", "chain")
            assert done.returncode == 0 and (later / "chain/0001.ckpt").exists(), done.stderr
        finally:
            subprocess.run(["umount", str(later)], check=True)
        assert not list(later.iterdir())
        os.kill(pid, signal.SIGKILL)
        until(lambda: not inits() - before, "no init is left")
    finally:
        first.kill()
        first.wait()


def inits() -> set[int]:
    """The living inits of restored trees that a ckpt of this process left to it; whoever has ended is waited for."""
    found = set()
    for pid in proc.processes():
        about = proc.parent_and_session(pid)
        with harness.suppressed(OSError):
            if about and about[0] == os.getpid():
                if about[2] == "Z":
                    os.waitpid(pid, os.WNOHANG)
                elif os.readlink(f"/proc/{pid}/exe").startswith("/memfd:ckpt-init"):
                    found.add(pid)
    return found


TERMINAL = """
import os, pty, sys, time
master, slave = pty.openpty()
while True:
    os.write(master, b"hello\\n")
    with open(sys.argv[1] + ".part", "w") as out:
        out.write(os.ttyname(slave) + " " + os.read(slave, 100).decode())
    os.read(master, 100)
    os.rename(sys.argv[1] + ".part", sys.argv[1])
    time.sleep(0.01)
"""


@pytest.mark.skipif(not ROOT, reason="a pid namespace alone needs root")
def test_terminals_of_its_own(tmp_path: Path) -> None:
    """With --pidns a terminal has its old number, though that is in use here."""
    first, said = telling(TERMINAL, tmp_path)
    try:
        name = said.read_text()
        images = str(tmp_path / "i")
        dump = ["dump", "-t", str(first.pid), "-D", images, "--leave-stopped"]
        assert commands().run(dump, tmp_path).returncode == 0
        said.unlink()
        done = commands().run(["restore", "-D", images, "--detach", "--pidns", "--json"], tmp_path)
        assert done.returncode == 0, done.stderr
        try:
            until(said.exists, "it has written")
            assert said.read_text() == name
        finally:
            os.kill(json.loads(done.stdout)["outside_pid"], signal.SIGKILL)
    finally:
        first.kill()
        first.wait()


@pytest.mark.skipif(not ROOT, reason="a pid namespace of another process needs root")
def test_two_namespaces_one_after_the_other() -> None:
    """What an embedding program has asked about one tree says nothing about one in another namespace."""
    null = subprocess.DEVNULL
    plain = subprocess.Popen(["sleep", "1000"], start_new_session=True, stdin=null, stdout=null, stderr=null)
    try:
        assert dumpable(plain.pid) == []
        with in_a_pid_namespace("--mount-proc") as inside:
            assert dumpable(inside) == []
        assert dumpable(plain.pid) == []
        with in_a_pid_namespace() as inside, pytest.raises(TaskError, match=r"its /proc is that of another one"):
            dumpable(inside)
    finally:
        plain.kill()
        plain.wait()


@contextmanager
def in_a_pid_namespace(*options: str) -> Iterator[int]:
    """The pid, here, of a process that is the first of its pid namespace."""
    command = ["unshare", "--pid", "--fork", "--kill-child", *options, "sleep", "1000"]
    null = subprocess.DEVNULL
    with subprocess.Popen(command, start_new_session=True, stdin=null, stdout=null, stderr=null) as started:
        try:
            children = Path(f"/proc/{started.pid}/task/{started.pid}/children")
            until(lambda: children.read_text() != "", "a child")
            inside = int(children.read_text())
            until(lambda: Path(f"/proc/{inside}/comm").read_text() == "sleep\n", "it sleeps")
            yield inside
        finally:
            started.kill()
