"""Trees whose root is the init of a pid namespace: they come back as one, and see nothing of ckpt's.

root: on (once more as another user, in a user namespace); guest: off (interpreters under emulation take minutes).
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from ckpt.kernel import features, namespaces, procfs
from tests.support import proc
from tests.support.commands import REPOSITORY, WAIT

ROOT = os.geteuid() == 0
USER = 65534
pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(not ROOT, reason="makes namespaces, and becomes another user"),
    pytest.mark.skipif(not features.probe("user-namespace").available, reason="no user namespaces"),
]

# It has a child, and an orphan that it adopted; at the end it must hear of these two, and of nobody else.
PROGRAM = """
import os, sys, time
assert os.getpid() == 1
place = sys.argv[1]
child = os.fork()
if not child:
    time.sleep(1000)
reader, writer = os.pipe()
if not os.fork():
    if os.fork():
        os._exit(0)
    os.write(writer, b"%d" % os.getpid())
    time.sleep(1000)
orphan = int(os.read(reader, 20))
os.wait()
turn = 0
while not os.path.exists(place + ".end"):
    turn += 1
    with open(place + ".part", "w") as out:
        out.write(f"{turn} {os.getpid()} {os.getsid(0)} {os.listdir('/proc').count(str(orphan))}")
    os.rename(place + ".part", place)
    time.sleep(0.02)
heard = []
for pid in (child, orphan):
    os.kill(pid, 9)
    heard.append(os.wait()[0])
try:
    heard.append(os.waitpid(-1, os.WNOHANG)[0])
except ChildProcessError:
    pass
sys.exit(9 if heard == [child, orphan] else 1)
"""


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + WAIT
    while not (found := condition()):
        assert time.monotonic() < end, f"timed out: {found!r}"
        time.sleep(0.01)


class Tree:
    """The program in namespaces of its own, and ckpt as the same user."""

    def __init__(self, place: Path, who: dict[str, object], code: str) -> None:
        self.place, self.who = place / "said", who
        self.program = place / "program"
        self.program.write_text(code)
        self.pid = 0

    def start(self) -> subprocess.Popen[bytes]:
        users = ["--user", "--map-current-user"] if self.who else []
        command = ["unshare", *users, "--fork", "--pid", "--mount-proc", sys.executable, "-S", str(self.program)]
        null = subprocess.DEVNULL
        started = subprocess.Popen(
            [*command, str(self.place)], stdin=null, stdout=null, stderr=null, start_new_session=True, **self.who
        )
        until(self.place.exists)
        (self.pid,) = procfs.children(started.pid, [started.pid])
        return started

    def ckpt(self, *words: str) -> tuple[int, dict[str, object]]:
        command = [sys.executable, "-B", "-m", "ckpt", *words, "--json"]
        done = subprocess.run(
            command, cwd=REPOSITORY, stdin=subprocess.DEVNULL, capture_output=True, check=False, **self.who
        )
        return done.returncode, json.loads(done.stdout or done.stderr)

    def turns(self) -> None:
        """It goes on, as pid 1."""
        before = self.place.read_text().split()
        until(lambda: int(self.place.read_text().split()[0]) > int(before[0]) + 3)
        assert self.place.read_text().split()[1:] == before[1:]


@contextmanager
def tree(place: Path, who: dict[str, object], code: str = PROGRAM) -> Iterator[Tree]:
    made = Tree(place, who, code)
    started = made.start()
    try:
        yield made
    finally:
        for pid in (made.pid, started.pid):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        started.wait()


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that every user may use."""
    with tempfile.TemporaryDirectory(prefix="ckpt-init-") as made:
        Path(made).chmod(0o777)
        yield Path(made)


@pytest.fixture
def subreaper() -> Iterator[None]:
    proc.become_subreaper()
    yield
    proc.become_subreaper(False)


def another_user() -> dict[str, object]:
    who: dict[str, object] = {"user": USER, "group": USER, "extra_groups": []}
    command = [sys.executable, "-B", "-m", "ckpt", "--version"]
    if subprocess.run(command, cwd=REPOSITORY, stdout=subprocess.DEVNULL, check=False, **who).returncode:
        pytest.skip("another user cannot run this interpreter or read this checkout")
    return who


@pytest.mark.parametrize(("who", "tracker"), [("root", "auto"), ("root", "content-hash"), ("user", "auto")])
def test_it_is_init_again(place: Path, who: str, tracker: str) -> None:
    with tree(place, another_user() if who == "user" else {}) as target:
        for number in ("1", "2"):
            take = ["-t", str(target.pid), "-D", str(place / number), "--tracker", tracker]
            for _ in range(int(number)):
                assert target.ckpt("pre-dump", *take)[0] == 0
            target.turns()
            assert target.ckpt("dump", *take)[0] == 0
            until(lambda: not procfs.exists(target.pid))
            pidfile = place / f"pid{number}"
            code, answer = target.ckpt("restore", "-D", take[3], "--detach", "--pidfile", str(pidfile))
            assert code == 0 and answer["pid"] == 1, answer
            target.pid = int(pidfile.read_text())
            assert namespaces.pid_inside(target.pid) == 1 and answer["outside_pid"] == target.pid
            target.turns()
        code, _ = target.ckpt("dump", "-t", str(target.pid), "-D", str(place / "3"), "--leave-running")
        assert code == 0
        target.turns()
        assert target.ckpt("dump", "-t", str(target.pid), "-D", str(place / "3"))[0] == 0
        until(lambda: not procfs.exists(target.pid))
        end = subprocess.Popen(["sh", "-c", f"sleep 2; touch {target.place}.end"], **target.who)
        code, answer = target.ckpt("restore", "-D", str(place / "3"))
        assert code == 9, answer
        end.wait()


def test_a_failure_leaves_nothing(place: Path, subreaper: None) -> None:
    with tree(place, {}) as target:
        assert target.ckpt("dump", "-t", str(target.pid), "-D", str(place / "i"))[0] == 0
        until(lambda: not procfs.exists(target.pid))
        before = _descendants()  # by subreaping: others on this machine have inits, too
        code, answer = target.ckpt("restore", "-D", str(place / "i"), "--detach", "--pidfile", "/nowhere/pid")
        assert code == 50, answer
        said = target.place.read_text()
        until(lambda: not _descendants() - before)
        assert target.place.read_text() == said


def test_a_file_that_is_gone(place: Path, subreaper: None) -> None:
    """The half-built init cannot be killed from within its namespace: the restore ends nevertheless, and says why."""
    program = f"kept = open({str(place / 'kept')!r})\n{PROGRAM}"
    (place / "kept").write_text("text")
    with tree(place, {}, program) as target:
        assert target.ckpt("dump", "-t", str(target.pid), "-D", str(place / "i"))[0] == 0
        until(lambda: not procfs.exists(target.pid))
        (place / "kept").unlink()
        before = _descendants()
        code, answer = target.ckpt("restore", "-D", str(place / "i"), "--detach")
        assert code == 52, answer
        until(lambda: not _descendants() - before)


def test_mounts_that_would_be_lost(place: Path) -> None:
    (place / "mnt").mkdir()
    mount = f"import subprocess; subprocess.run(['mount', '-t', 'tmpfs', 'none', {str(place / 'mnt')!r}], check=True)"
    with tree(place, {}, f"{mount}\n{PROGRAM}") as target:
        for verb in ("dump", "pre-dump"):
            code, answer = target.ckpt(verb, "-t", str(target.pid), "-D", str(place / "i"))
            assert code == 20 and str(place / "mnt") in answer["error"]["message"], answer  # type: ignore[index]
        assert not (place / "i").exists()
        target.turns()


def test_a_connection_that_nobody_could_hold(place: Path) -> None:
    """What holds a connection to the outside from the dump to the restore would end with the namespace."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        program = f"import socket\nkept = socket.create_connection(('127.0.0.1', {port}))\n{PROGRAM}"
        with tree(place, {}, program) as target:
            dump = ["dump", "-t", str(target.pid), "-D", str(place / "i")]
            code, answer = target.ckpt(*dump, "--tcp-established")
            assert code == 25 and "end with this pid" in json.dumps(answer), answer
            target.turns()
            assert target.ckpt(*dump, "--tcp-close")[0] == 0


def _descendants() -> set[int]:
    """The living processes below this one, to which a ckpt that has ended leaves its own."""
    abouts = {pid: about for pid in proc.processes() if (about := proc.parent_and_session(pid))}
    found, todo = set(), [os.getpid()]
    while todo:
        parent = todo.pop()
        below = [pid for pid, about in abouts.items() if about[0] == parent]
        found |= {pid for pid in below if not proc.is_dead(pid)}
        todo += below
    return found


def test_an_init_without_children_ends_with_its_dump(tmp_path: Path) -> None:
    """No signal from within the namespace ends it: ckpt waited for that for half a minute, then the tree ran on."""
    command = ["unshare", "--pid", "--fork", "--mount-proc", "sleep", "1000"]
    with subprocess.Popen(command, cwd="/", stdin=subprocess.DEVNULL, start_new_session=True) as outer:
        found: list[int] = []

        def runs() -> bool:
            found[:] = procfs.children(outer.pid, [outer.pid])
            return bool(found) and Path(f"/proc/{found[0]}/comm").read_text() == "sleep\n"

        until(runs)
        root = os.pidfd_open(found[0])
        try:
            began = time.monotonic()
            arguments = [sys.executable, "-m", "ckpt", "dump", "-t", str(found[0]), "-D", str(tmp_path / "chain")]
            done = subprocess.run(arguments, cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=WAIT)
            assert done.returncode == 0, done.stderr
            assert time.monotonic() - began < 25
            assert select.select([root], [], [], 30)[0], "it runs on"
        finally:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(root, signal.SIGKILL)
            os.close(root)
