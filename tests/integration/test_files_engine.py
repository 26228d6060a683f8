"""Programs that check their own files after a dump and a restore. Needs root."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.root

PR_SET_CHILD_SUBREAPER = 36

PROLOGUE = """
import os, sys, time, signal, struct, ctypes, select, fcntl, mmap
D = sys.argv[1]; c = ctypes.CDLL(None, use_errno=True)
def checkpoint():
    open(D + "/ready", "w").close()
    while not os.path.exists(D + "/go"):
        time.sleep(0.01)
"""

ANONYMOUS = """
ev = os.eventfd(5, os.EFD_SEMAPHORE)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
sig = c.signalfd(-1, struct.pack("<Q", 1 << signal.SIGUSR1 - 1), 0); os.kill(os.getpid(), signal.SIGUSR1)
once = c.timerfd_create(1, 0); c.timerfd_settime(once, 0, struct.pack("<4q", 0, 0, 0, 1), None)
often = c.timerfd_create(1, 0); c.timerfd_settime(often, 0, struct.pack("<4q", 0, 1000000, 0, 1), None)
select.select([once], [], []); select.select([often], [], [])
m = os.memfd_create("shared"); os.write(m, b"in the memfd" + bytes(9000)); v = mmap.mmap(m, 9000)
m2 = os.open(f"/proc/self/fd/{m}", os.O_RDONLY)
t = os.open(D, os.O_TMPFILE | os.O_RDWR); os.write(t, b"nameless")
os.mkdir(D + "/seen"); i = c.inotify_init1(0); wd = c.inotify_add_watch(i, (D + "/seen").encode(), 0x100)
status = open("/proc/self/status"); status.readline()
me = os.pidfd_open(os.getpid())
e = select.epoll(); dup = os.dup(ev); e.register(dup, select.EPOLLIN); os.dup2(t, dup)
checkpoint()
assert [os.eventfd_read(ev) for _ in range(5)] == [1] * 5 and not e.poll(0)
os.eventfd_write(ev, 1); assert e.poll(0) == [(dup, select.EPOLLIN)]
assert struct.unpack_from("<I", os.read(sig, 128)) == (signal.SIGUSR1,)
assert os.read(once, 8) == struct.pack("<Q", 1)
assert struct.unpack("<Q", os.read(often, 8))[0] >= 1; os.read(often, 8)
v[:2] = b"IN"; assert os.pread(m2, 12, 0) == b"IN the memfd" and os.fstat(m2).st_size == 9012
assert os.pread(t, 10, 0) == b"nameless" and os.fstat(t).st_nlink == 0
open(D + "/seen/new", "w").close()
assert struct.unpack_from("<i", os.read(i, 4096)) == (wd,)
assert f"Pid:\\t{os.getpid()}\\n" in status.read()
signal.pidfd_send_signal(me, 0)
"""

TREE = """
r, w = os.pipe(); back_r, back_w = os.pipe()
path = D + "/file"; f = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND); os.write(f, b"start;")
lock = open(D + "/lock", "w")
pid = os.fork()
if not pid:
    os.close(w); os.close(back_r)
    fcntl.lockf(lock, fcntl.LOCK_EX)
    os.write(back_w, b"born")
    data = b""
    while part := os.read(r, 100): data += part              # ends only when every writer is gone
    os.write(back_w, data); os.write(f, b"child;"); os._exit(7)
os.close(r); os.close(back_w)
assert os.read(back_r, 4) == b"born"
os.write(w, b"before;")
checkpoint()
os.write(w, b"after"); os.close(w)
got = b""
while part := os.read(back_r, 100): got += part
assert got == b"before;after", got
try: fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError: assert False, "the child has ended"
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
assert os.pread(f, 100, 0) == b"start;child;"
assert fcntl.fcntl(f, fcntl.F_GETFL) & os.O_APPEND
"""

LOCKS_AND_OWNER = """
r, w = os.pipe(); got = []
signal.signal(signal.SIGRTMIN, lambda s, f: got.append(s))
fcntl.fcntl(r, fcntl.F_SETOWN, os.getpid()); fcntl.fcntl(r, 10, signal.SIGRTMIN)
fcntl.fcntl(r, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
gone = open(D + "/gone", "w+"); gone.write("kept"); gone.flush(); os.unlink(D + "/gone"); again = os.dup(gone.fileno())
a = open(D + "/a", "w"); fcntl.flock(a, fcntl.LOCK_EX)
b = open(D + "/b", "w"); fcntl.lockf(b, fcntl.LOCK_EX, 10, 5)
checkpoint()
assert not got
os.write(w, b"x")
while not got: time.sleep(0.01)
gone.seek(0); assert gone.read() == "kept" and os.lseek(again, 0, 1) == 4
pid = os.fork()
if not pid:
    free = []
    for name, take in (("/a", lambda f: fcntl.flock(f, 6)), ("/b", lambda f: fcntl.lockf(f, 6, 1, 7))):
        try: take(open(D + name, "r+")); free.append(name)
        except BlockingIOError: pass
    fcntl.lockf(open(D + "/b", "r+"), 6, 1, 20)
    os._exit(len(free))
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
"""


class Program:
    """A target in a session of its own; `others` are its children."""

    def __init__(self, code: str, directory: Path) -> None:
        self.directory = directory
        self.errors = directory / "errors"
        null = subprocess.DEVNULL
        with self.errors.open("w") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-c", PROLOGUE + code, str(directory)],
                stdin=null, stdout=null, stderr=errors, start_new_session=True,
            )  # fmt: skip
        self.wait_for(lambda: (directory / "ready").exists() or self.process.poll() is not None)
        assert self.process.poll() is None, self.errors.read_text()

    def wait_for(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < deadline, self.errors.read_text()
            time.sleep(0.01)

    def go(self) -> None:
        (self.directory / "go").touch()

    def wait_until_gone(self) -> None:
        """The whole session has ended and every number is free."""
        assert self.process.wait(60) == -signal.SIGKILL
        self.wait_for(lambda: not self._others())

    def _others(self) -> list[int]:
        found = []
        for entry in os.listdir("/proc"):
            if entry.isdigit() and entry != str(os.getpid()):
                try:
                    fields = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
                except OSError:
                    continue
                if int(fields[3]) == self.process.pid:
                    found.append(int(entry))
                    if fields[0] == "Z" and int(fields[1]) == os.getpid():
                        os.waitpid(int(entry), 0)
        return found

    def close(self) -> None:
        for pid in self._others():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self.process.poll() is None:
            self.process.wait(60)
        self.wait_for(lambda: not self._others())


@pytest.fixture(autouse=True)
def subreaper():
    """Children of a killed target come to this process, since not every machine's init reaps at once."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    yield
    libc.prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def ckpt(directory: Path, statement: str) -> subprocess.Popen[str]:
    """A ckpt in a process of its own."""
    code = f"import sys\nfrom ckpt.engine.rounds import dump\nfrom ckpt.engine.restore import restore\n{statement}"
    with (directory / "ckpt-output").open("w") as output:
        return subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.DEVNULL, stdout=output, stderr=output, text=True
        )


@pytest.mark.parametrize(
    ("code", "leave"),
    [
        pytest.param(ANONYMOUS, "killed", id="anonymous"),
        pytest.param(ANONYMOUS, "running", id="anonymous-running"),
        pytest.param(TREE, "killed", id="tree"),
        pytest.param(LOCKS_AND_OWNER, "killed", id="locks-and-owner"),
    ],
)
def test_the_program_finds_its_files(code, leave, tmp_path):
    program = Program(code, tmp_path)
    images = str(tmp_path / "images")
    output = tmp_path / "ckpt-output"
    restorer = None
    try:
        dumper = ckpt(tmp_path, f"dump({program.process.pid}, {images!r}, leave={leave!r})")
        assert dumper.wait(60) == 0, output.read_text()
        if leave == "running":  # the dump took nothing away
            program.go()
            assert program.process.wait(60) == 0, program.errors.read_text()
            return
        program.wait_until_gone()
        program.go()
        restorer = ckpt(tmp_path, f"sys.exit(restore({images!r}).wait())")
        assert restorer.wait(60) == 0, output.read_text() + program.errors.read_text()
    finally:
        if restorer is not None and restorer.poll() is None:
            restorer.kill()
            restorer.wait()
        program.close()
