"""Jobs of a shell on a terminal outside the tree: dumped there, restored on another terminal by another shell."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.commands import REPOSITORY, WAIT

pytestmark = [pytest.mark.root, pytest.mark.timeout(300)]

CKPT = f"{sys.executable} -m ckpt"


class Terminal:
    """A program on a terminal of its own."""

    def __init__(self, *command: str) -> None:
        self.pid, self.master = pty.fork()
        if self.pid == 0:
            os.closerange(3, 1024)
            environment = {
                "PATH": os.environ["PATH"],
                "TERM": "xterm",
                "PS1": "$ ",
                "PYTHONPATH": str(REPOSITORY),
            }
            os.chdir(REPOSITORY)
            os.execvpe(command[0], command, environment)
        self.text = ""

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def until(self, pattern: str, what: str = "") -> str:
        """Read until the pattern is seen; gives the text up to its end, which is not looked at again."""
        end = time.monotonic() + WAIT
        while not (match := re.search(pattern, self.text)):
            left = end - time.monotonic()
            assert left > 0 and select.select([self.master], [], [], left)[0], (what or pattern, self.text[-2000:])
            try:
                self.text += os.read(self.master, 65536).decode(errors="replace")
            except OSError:
                raise AssertionError(f"the terminal closed before {pattern!r}: {self.text[-2000:]}") from None
        seen, self.text = self.text[: match.end()], self.text[match.end() :]
        return seen

    def job(self) -> int:
        """The pid of the shell's only child."""
        end = time.monotonic() + WAIT
        path = Path(f"/proc/{self.pid}/task/{self.pid}/children")
        while not (children := path.read_text().split()):
            assert time.monotonic() < end
            time.sleep(0.01)
        return int(children[0])

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        os.close(self.master)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)


@contextlib.contextmanager
def shell() -> Iterator[Terminal]:
    made = Terminal("bash", "--norc", "--noediting", "-i")
    try:
        made.until(r"\$ ")
        yield made
    finally:
        made.close()


def running(pid: int) -> None:
    """Wait until the restored task is let go."""
    end = time.monotonic() + WAIT
    while True:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")  # those of ckpt before it is a skeleton
            if "TracerPid:\t0\n" in Path(f"/proc/{pid}/status").read_text() and b"restore" not in words:
                return
        assert time.monotonic() < end, f"{pid} was not restored"
        time.sleep(0.02)


def reading(pid: int) -> None:
    """Wait until the task waits in a system call for what its terminal brings, and is not stopped."""
    end = time.monotonic() + WAIT
    while True:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        call = Path(f"/proc/{pid}/syscall").read_text().split()[0]
        if state == "S" and call in ("0", "23", "270"):  # read, select
            return
        assert time.monotonic() < end, f"{pid} does not read: state {state}, call {call}"
        time.sleep(0.02)


def ckpt(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*CKPT.split(), *arguments], capture_output=True, text=True, cwd=REPOSITORY, timeout=120)


def dumped(pid: int, images: Path, *options: str) -> None:
    done = ckpt("dump", "-t", str(pid), "-D", str(images), "--shell-job", *options)
    assert done.returncode == 0, done.stderr


def test_an_interpreter_goes_on_in_another_terminal(tmp_path: Path) -> None:
    with shell() as first, shell() as second:
        first.type(f"{sys.executable} -q\n")
        first.until(r">>> ")
        first.type("secret = 6 * 7; print('ready')\n")
        first.until(r"\nready\r\n>>> ")
        pid = first.job()
        refused = ckpt("dump", "-t", str(pid), "-D", str(tmp_path / "refused"))
        assert refused.returncode == 25 and "--shell-job" in refused.stderr
        dumped(pid, tmp_path / "images")
        first.until(r"\$ ")
        second.type(f"{CKPT} restore -D {tmp_path}/images --shell-job; echo status $?\n")
        running(pid)
        second.type("print('value', secret)\n")
        second.until(r"\nvalue 42\r\n>>> ")
        reading(pid)  # Python drops a ^C that comes before it waits
        second.type("\x03")
        second.until("KeyboardInterrupt")
        second.until(">>> ")
        second.type("import os; print(os.tcgetpgrp(0) == os.getpgrp(), os.ttyname(0))\n")
        second.until(rf"True {os.readlink(f'/proc/{second.pid}/fd/0')}")
        second.type("exit(5)\n")
        second.until(r"status 5\r\n")
        second.type("echo the shell has its terminal\n")
        second.until(r"(\$ |\n)the shell has its terminal")


def test_a_job_stops_and_goes_on_under_the_new_shell(tmp_path: Path) -> None:
    with shell() as first, shell() as second:
        first.type("cat\n")
        pid = first.job()
        first.type("one\n")
        first.until(r"one\r\none\r\n")
        dumped(pid, tmp_path / "images")
        second.type(f"{CKPT} restore -D {tmp_path}/images --shell-job\n")
        running(pid)
        second.type("two\n")
        second.until(r"\ntwo\r\n")
        second.type("\x1a")
        second.until(r"Stopped.*\r\n")
        second.type("echo in the shell\n")
        second.until(r"(\$ |\n)in the shell\r\n")
        second.type("fg\n")
        second.until(r"restore.*\r\n")  # the shell says what goes on
        reading(pid)
        second.type("three\n")
        second.until(r"three\r\nthree\r\n")
        second.type("\x04")
        second.until(r"\$ ")


def test_a_shell_that_leads_its_session_gets_a_terminal_through_ckpt(tmp_path: Path) -> None:
    with shell() as first, shell() as second:
        first.type("value=kept; sleep 1000 &\n")
        first.until(r"\$ ")
        dumped(first.pid, tmp_path / "images")
        os.waitpid(first.pid, 0)
        second.type(f"{CKPT} restore -D {tmp_path}/images --shell-job; echo status $?\n")
        running(first.pid)
        second.type("echo is $value; jobs\n")
        second.until(r"(\$ |\n)is kept\r\n")
        second.until(r"Running.*sleep 1000")
        second.until(r"\$ ")
        second.type("cat\n")
        second.type("echoed\n")
        second.until(r"echoed\r\nechoed")
        second.type("\x03")
        second.until(r"\$ ")
        second.type("kill %1; exit 6\n")
        second.until(r"status 6\r\n")
        second.type("echo back\n")
        second.until(r"(\$ |\n)back\r\n")


@pytest.mark.skipif(shutil.which("vim") is None, reason="no vim")
def test_vim(tmp_path: Path) -> None:
    file = tmp_path / "text"
    file.write_text("first line\n")
    with shell() as first, shell() as second:
        first.type(f"cd {tmp_path}\n")  # a long name would make vim ask for a key
        first.type("vim -u NONE -n text\n")
        first.until("first line")
        pid = first.job()
        first.type("oadded before\x1b:set tabstop?\n")
        first.until("added before")
        first.until("tabstop=8")  # so it is out of insert mode
        reading(pid)
        dumped(pid, tmp_path / "images")
        second.type(f"{CKPT} restore -D {tmp_path}/images --shell-job; echo status $?\n")
        running(pid)
        second.type("oadded after\x1b:wq\n")
        second.until(r"status 0\r\n")
    assert file.read_text() == "first line\nadded before\nadded after\n"
