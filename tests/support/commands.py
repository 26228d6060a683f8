"""Runs ckpt's commands for the targets, each in a process of its own."""

from __future__ import annotations

import atexit
import functools
import json
import os
import select
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SUPPORT = Path(__file__).resolve().parent
REPOSITORY = SUPPORT.parent.parent
WAIT = float(os.environ.get("CKPT_TARGET_WAIT", "60"))  # seconds; far beyond what a loaded machine needs


@dataclass(frozen=True)
class Done:
    """The exit code and the output of one command."""

    returncode: int
    stdout: str
    stderr: str


class Commands:
    """Runs ckpt's commands, each in a process of its own; the imports are made once (see warm.py).

    `user`: who runs them, with the group of the same number alone; None for who we are.
    """

    def __init__(self, user: int | None = None) -> None:
        self.who = as_user(user)
        self.cold = os.environ.get("CKPT_TARGET_COLD") == "1"
        self.server: subprocess.Popen[str] | None = None

    def run(self, arguments: list[str], directory: Path, **death: object) -> Done:
        """`death`: kill_after, or die_at and calls, as warm.py has them."""
        if self.cold and not death:
            command = [sys.executable, "-m", "ckpt", *arguments]
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd=REPOSITORY, timeout=2 * WAIT,
                **self.who,
            )  # fmt: skip
            return Done(done.returncode, done.stdout, done.stderr)
        if self.server is None or self.server.poll() is not None:
            self.close()
            self.server = subprocess.Popen(
                [sys.executable, str(SUPPORT / "warm.py")],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                cwd=REPOSITORY,
                env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
                **self.who,
            )
        stdout, stderr = directory / "stdout", directory / "stderr"
        for output in (stdout, stderr):  # one that is killed at once says nothing, not what was said before it
            output.unlink(missing_ok=True)
        server = self.server
        assert server.stdin is not None and server.stdout is not None
        order = {"arguments": arguments, "stdout": str(stdout), "stderr": str(stderr), **death}
        server.stdin.write(json.dumps(order) + "\n")
        server.stdin.flush()
        late = "" if select.select([server.stdout], [], [], 2 * WAIT)[0] else f"killed after {2 * WAIT:.0f} s\n"
        if late:
            for child in Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split():
                os.kill(int(child), signal.SIGKILL)
        code = server.stdout.readline().strip()
        said = [output.read_text(errors="replace") if output.exists() else "" for output in (stdout, stderr)]
        return Done(int(code or 1), said[0], said[1] + late)

    def close(self) -> None:
        if self.server is not None:
            for stream in (self.server.stdin, self.server.stdout):
                if stream is not None:
                    stream.close()
            self.server.wait()
            self.server = None


def as_user(user: int | None) -> dict[str, Any]:
    """What makes subprocess start a program as that user."""
    return {} if user is None else {"user": user, "group": user, "extra_groups": []}


@functools.cache
def commands(user: int | None = None) -> Commands:
    made = Commands(user)
    atexit.register(made.close)
    return made
