"""Runs one target in one mode: start it, checkpoint it as the mode says, let it go and read its verdict.

ckpt is called as a user calls it, in a process of its own for each command. Nothing survives a run: every process
that carries the run's mark, or is in the target's session, is killed by pid at the end.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support import proc
from tests.support.commands import SUPPORT, WAIT, commands

TARGETS = SUPPORT.parent / "targets"
MARK = "CKPT_TARGET"


class TargetFailed(AssertionError):
    """The target or ckpt did not do what the mode demands; the message holds every command's output."""


class TargetSkipped(Exception):
    """The target says that this machine lacks what it is about."""


@dataclass(frozen=True)
class Mode:
    """How a target is taken."""

    name: str
    pre_dumps: int = 0
    merged: bool = False
    leave_running: bool = False
    cycles: int = 1
    tracker: str | None = None
    snapshot: bool = False  # brought back from a copy-on-write snapshot, while the original went on and was killed
    memory_only: bool = False


MODES = {
    mode.name: mode
    for mode in (
        Mode("dump"),
        Mode("pre-dump-1", pre_dumps=1),
        Mode("pre-dump-3", pre_dumps=3),
        Mode("merged", pre_dumps=2, merged=True),
        Mode("leave-running", pre_dumps=1, leave_running=True),
        Mode("snapshot", pre_dumps=1, leave_running=True, snapshot=True, memory_only=True),
        Mode("twice", pre_dumps=1, cycles=2),
        Mode("write-protect", pre_dumps=3, tracker="write-protect", memory_only=True),
        Mode("content-hash", pre_dumps=3, tracker="content-hash", memory_only=True),
        Mode("merged-content-hash", pre_dumps=2, merged=True, tracker="content-hash", memory_only=True),
    )
}


@dataclass(frozen=True)
class Target:
    """One program under tests/targets."""

    path: Path

    @property
    def name(self) -> str:
        return str(self.path.relative_to(TARGETS).with_suffix(""))

    @property
    def about_memory(self) -> bool:
        return self.path.parent.name == "memory"

    @property
    def refused(self) -> bool:
        """Whether ckpt must refuse it by name, and leave it unharmed."""
        return self.path.parent.name == "refused"

    def modes(self) -> list[Mode]:
        if self.refused:
            return [MODES["dump"]]
        return [mode for mode in MODES.values() if self.about_memory or not mode.memory_only]


def all_targets() -> list[Target]:
    return [Target(path) for path in sorted(TARGETS.glob("*/*")) if path.suffix in (".py", ".c")]


class Run:
    """One target under way, in a directory of its own that every user may write to."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.dir = Path(tempfile.mkdtemp(prefix="ckpt-target-"))  # short: socket names are limited
        self.work = self.dir / "t"
        self.work.mkdir()
        for directory in (self.dir, self.work):
            directory.chmod(0o777)
        self.images = self.dir / "images"
        self.history: list[str] = []
        self.pid = 0
        self.sessions: set[int] = set()
        self.process: subprocess.Popen[bytes] | None = None
        self.ends: dict[int, int] = {}  # pid -> exit status, of those reaped; negative: the signal

    # ------------------------------------------------------------ the target

    def command(self) -> list[str]:
        if self.target.path.suffix == ".py":
            return [sys.executable, "-S", "-B", str(self.target.path), str(self.work)]
        compiler = shutil.which("gcc")
        if compiler is None:
            raise TargetSkipped("no gcc")
        program = self.dir / "program"
        flags = ["-O1", "-pthread", f"-I{SUPPORT}", "-o", str(program), str(self.target.path)]
        done = subprocess.run([compiler, *flags], capture_output=True, text=True)
        if done.returncode:
            raise TargetFailed(done.stderr)
        return [str(program), str(self.work)]

    def environment(self) -> dict[str, str]:
        made = {"PATH": os.environ["PATH"], "PYTHONPATH": str(SUPPORT), MARK: str(self.dir), "LC_ALL": "C.UTF-8"}
        if "numpy" in self.target.name:
            import numpy

            made["PYTHONPATH"] += f":{Path(numpy.__file__).parent.parent}"
            made["OPENBLAS_NUM_THREADS"] = "1"
        return made

    def start(self) -> None:
        with (self.work / "log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                close_fds=True,
                start_new_session=True,
                env=self.environment(),
                cwd=self.work,
            )
        self.pid = self.process.pid
        self.sessions.add(self.pid)
        self.wait(lambda: (self.work / "ready").exists() or self.verdict() is not None, "ready")
        if not (self.work / "ready").exists():
            verdict = self.verdict() or ""
            if verdict.startswith("SKIP"):
                raise TargetSkipped(verdict)
            self.fail(f"never ready: {verdict}")

    def verdict(self) -> str | None:
        try:
            return (self.work / "verdict").read_text()
        except FileNotFoundError:
            return None

    def ticks(self) -> int | None:
        try:
            return int((self.work / "tick").read_text())
        except FileNotFoundError:
            return None

    def wait_for_ticks(self, more: int = 3) -> None:
        """Let a target that keeps changing change some more: it must be running for that."""
        before = self.ticks()
        if before is not None:
            self.wait(lambda: (self.ticks() or 0) >= before + more, "the target goes on changing")

    def wait(self, condition: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + WAIT
        while not condition():
            if not self.alive() and not condition():
                self.fail(f"the target died before: {what}")
            if time.monotonic() > end:
                self.fail(f"timed out: {what}")
            time.sleep(0.01)

    def alive(self) -> bool:
        """Whether the root task lives; reaps it when it is ours."""
        if self.process is not None:
            return self.process.poll() is None
        with suppressed(ChildProcessError):
            os.waitpid(self.pid, os.WNOHANG)
        return Path(f"/proc/{self.pid}").exists()

    def reap(self) -> None:
        """Collect every dead child that is the target's: a zombie holds its pid, its session and its group."""
        for pid in proc.processes():
            about = proc.parent_and_session(pid)
            if about and about[2] == "Z" and about[0] == os.getpid():
                if self.process is not None and pid == self.process.pid:
                    code = self.process.poll()
                else:
                    code = None
                    with suppressed(ChildProcessError):  # a first thread that has ended is no end of its process
                        found, status = os.waitpid(pid, os.WNOHANG)
                        code = os.waitstatus_to_exitcode(status) if found else None
                if code is not None:
                    self.ends[pid] = code

    def go(self, text: str = "go") -> str:
        part = self.work / "go.part"
        part.write_text(text)
        part.rename(self.work / "go")
        self.wait(lambda: self.verdict() is not None, "verdict")
        return self.verdict() or ""

    def expect_pass(self) -> None:
        verdict = self.go()
        if verdict.startswith("SKIP"):
            raise TargetSkipped(verdict)
        if verdict != "PASS":
            self.fail(verdict)

    def fail(self, message: str) -> None:
        log = self.work / "log"
        output = log.read_text(errors="replace")[-3000:] if log.exists() else ""
        raise TargetFailed("\n".join([f"{self.target.name}: {message}", *self.history, "log:", output]))

    # ------------------------------------------------------------ ckpt

    def ckpt(self, *arguments: str, expect: Container[int] = (0,)) -> dict[str, object]:
        """One command of ckpt; gives the object that --json prints."""
        done = commands().run([*arguments, "--json"], self.dir)
        self.history.append(f"$ ckpt {' '.join(arguments)} -> {done.returncode}\n{done.stdout}{done.stderr}"[-2500:])
        if done.returncode not in expect:
            self.fail(f"ckpt {arguments[0]} gave {done.returncode}, which is not in {expect}")
        try:
            answer = json.loads(done.stdout.strip().splitlines()[-1] if done.stdout.strip() else "{}")
        except ValueError:
            try:
                answer = json.loads(done.stdout)
            except ValueError:
                self.fail(f"ckpt {arguments[0]} --json did not print JSON")
        return answer if isinstance(answer, dict) else {}

    def take(self, mode: Mode, images: Path) -> None:
        tracker = ["--tracker", mode.tracker] if mode.tracker else []
        for _ in range(mode.pre_dumps):
            self.ckpt("pre-dump", "-t", str(self.pid), "-D", str(images), *tracker)
            self.wait_for_ticks()
        leave = ["--leave-running"] if mode.leave_running else []
        leave += ["--snapshot", "fork"] if mode.snapshot else []
        self.ckpt("dump", "-t", str(self.pid), "-D", str(images), *tracker, *leave)

    def gone(self) -> None:
        """After a dump: the whole tree is dead, and its pids are free."""
        self.wait_dead()
        self.process = None

    def wait_dead(self) -> None:
        end = time.monotonic() + WAIT
        while True:
            left = [pid for pid in self.mine() if not proc.is_dead(pid)]
            self.reap()  # after the look: what has died before it holds no pid any more
            if not left and not Path(f"/proc/{self.pid}").exists():
                return
            if time.monotonic() > end:
                self.fail(f"still alive after the dump: {left}")
            time.sleep(0.01)

    def restore(self, images: Path) -> None:
        answer = self.ckpt("restore", "-D", str(images), "--detach")
        pid = answer.get("pid", self.pid)
        if pid != self.pid or not Path(f"/proc/{self.pid}").exists():
            self.fail(f"restored as pid {pid}, was {self.pid}")

    def checkpointed(self, mode: Mode) -> None:
        """Take and bring back the target as the mode says; the verdict is the caller's."""
        for cycle in range(mode.cycles):
            images = self.images / str(cycle)
            images.mkdir(parents=True)
            self.take(mode, images)
            if mode.leave_running:
                if not self.alive():
                    self.fail("dump --leave-running did not leave it running")
                self.wait_for_ticks()
                if not mode.snapshot:
                    return
                self.kill()
            self.gone()
            if mode.merged:
                merged = self.images / f"{cycle}-merged"
                self.ckpt("merge", "-D", str(images), "-o", str(merged))
                shutil.rmtree(images)
                images = merged
            self.restore(images)
            self.wait_for_ticks()

    # ------------------------------------------------------------ the end

    def mine(self) -> list[int]:
        """The processes of this run: those with its mark, and those in its sessions, whose marks may be gone."""
        found = []
        mark = f"{MARK}={self.dir}".encode()
        for pid in proc.processes():
            about = proc.parent_and_session(pid)
            if about is None:
                continue
            try:
                marked = mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            except OSError:
                marked = False
            if marked or about[1] in self.sessions:
                found.append(pid)
        return found

    def kill(self) -> None:
        """End all of this run; one that ends has no environment any more, so its pid is kept in mind."""
        end = time.monotonic() + WAIT
        killed: set[int] = set()
        while time.monotonic() < end:
            self.reap()
            left = [pid for pid in self.mine() if not proc.is_dead(pid)]
            killed = {pid for pid in killed.union(left) if Path(f"/proc/{pid}").exists()}
            if not killed:
                break
            for pid in left:
                with suppressed(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)

    def close(self) -> None:
        self.kill()
        if self.process is not None:
            with suppressed(subprocess.TimeoutExpired):
                self.process.wait(WAIT)
        self.reap()
        self.unmount()
        shutil.rmtree(self.dir, ignore_errors=True)

    def unmount(self) -> None:
        """Take away what the target mounted."""
        points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        for point in reversed(points):
            if point.startswith(f"{self.dir}/"):
                ctypes.CDLL(None).umount2(os.fsencode(point), 2)  # MNT_DETACH


@contextmanager
def suppressed(error: type[BaseException]) -> Iterator[None]:
    try:
        yield
    except error:
        return


@contextmanager
def running(target: Target) -> Iterator[Run]:
    run = Run(target)
    try:
        run.start()
        yield run
    finally:
        run.close()


def run_mode(target: Target, mode: Mode) -> None:
    """The whole life of one target in one mode."""
    with running(target) as run:
        if target.refused:
            run.ckpt("dump", "-t", str(run.pid), "-D", str(run.images), expect=range(20, 30))
        else:
            run.checkpointed(mode)
        run.expect_pass()


def run_alone(target: Target, text: str = "go") -> str:
    """The target without ckpt; gives its verdict."""
    with running(target) as run:
        return run.go(text)
