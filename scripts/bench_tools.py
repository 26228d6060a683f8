"""What the measurements of scripts/bench share: targets, runs of ckpt, and figures with their limits."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
# ckpt is measured as it is installed: with its modules compiled.
ENVIRONMENT = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}


@dataclass(frozen=True)
class Figure:
    """One measured number. `limit` is what it must not exceed, or with `at_least` what it must reach."""

    name: str
    value: float
    unit: str
    limit: float | None = None
    at_least: bool = False

    @property
    def ok(self) -> bool | None:
        if self.limit is None:
            return None
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    def line(self) -> str:
        text = f"  {self.name:44} {self.value:10.3f} {self.unit:12}"
        if self.limit is not None:
            text += f" {'at least' if self.at_least else 'at most'} {self.limit:g}: {'pass' if self.ok else 'FAIL'}"
        return text.rstrip()


@dataclass
class Report:
    """The figures of a run, printed as they come or, with `as_json`, together at the end."""

    as_json: bool = False
    figures: list[Figure] = field(default_factory=list)

    def title(self, text: str) -> None:
        if not self.as_json:
            print(text, flush=True)

    def add(
        self, name: str, value: float, unit: str = "", *, most: float | None = None, least: float | None = None
    ) -> None:
        figure = Figure(name, float(value), unit, most if least is None else least, least is not None)
        self.figures.append(figure)
        if not self.as_json:
            print(figure.line(), flush=True)

    def take(self, line: str) -> None:
        """The figures of another run, as `finish` prints them."""
        for row in json.loads(line)["figures"]:
            limits = {"least" if row["limit_is"] == "at least" else "most": row["limit"]}
            self.add(row["name"], row["value"], row["unit"], **limits)

    def finish(self) -> int:
        """The exit status: 1 when a figure misses its limit."""
        if self.as_json:
            rows = [
                {
                    "name": f.name, "value": f.value, "unit": f.unit, "limit": f.limit,
                    "limit_is": None if f.limit is None else "at least" if f.at_least else "at most", "ok": f.ok,
                }
                for f in self.figures
            ]  # fmt: skip
            print(json.dumps({"figures": rows}))
        return int(any(figure.ok is False for figure in self.figures))


@dataclass
class Target:
    process: subprocess.Popen[bytes]
    place: Path
    size: int
    cycle: int = 0

    @property
    def pid(self) -> int:
        return self.process.pid

    def dirty(self) -> None:
        """One cycle of writes, finished when this returns."""
        self.cycle += 1
        os.kill(self.pid, signal.SIGUSR1)
        wait_for(lambda: text(self.place / "cycle") == str(self.cycle), "the target's cycle")

    def fork(self) -> float:
        """Milliseconds that a fork of the target takes, as it measures them itself."""
        os.kill(self.pid, signal.SIGUSR2)
        wait_for((self.place / "forked").exists, "the target's fork")
        took = float(text(self.place / "forked"))
        (self.place / "forked").unlink()
        return took


def text(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def wait_for(condition: Callable[[], object], what: str, seconds: float = 600) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"bench: waited {seconds} s for {what}")
        time.sleep(0.01)


@contextmanager
def target(place: Path, mib: int, hot: float, *extra: str) -> Iterator[Target]:
    place.mkdir()
    command = [sys.executable, str(ROOT / "scripts/bench_target.py"), str(place), str(mib), str(hot), *extra]
    with (place / "log").open("wb") as log:
        # One thread, whatever numpy would start.
        alone = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=ROOT, env=alone)
    try:
        wait_for(lambda: text(place / "where") or process.poll() is not None, "the target")
        if process.poll() is not None:
            raise SystemExit(f"bench: the target failed:\n{text(place / 'log')}")
        yield Target(process, place, mib << 20)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


@dataclass(frozen=True)
class Run:
    """One command of ckpt: what it printed, and what it took."""

    found: dict[str, Any]
    seconds: float
    cpu: float  # seconds
    peak: int  # bytes

    @property
    def frozen_ms(self) -> float:
        return float(self.found["frozen_time"]) / 1000

    @property
    def peak_mib(self) -> float:
        return self.peak / (1 << 20)


def ckpt(*arguments: object) -> Run:
    """Run one command with --json."""
    command = [sys.executable, "-m", "ckpt", *map(str, arguments), "--json"]
    with tempfile.TemporaryFile() as out:
        start = time.perf_counter()
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, cwd=ROOT, env=ENVIRONMENT)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"bench: ckpt {arguments[0]} ended with {process.returncode}")
        out.seek(0)
        return Run(json.loads(out.read()), seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss << 10)
