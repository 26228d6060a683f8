"""A tracker against the truth: what an engine would rebuild, next to the frozen target's own bytes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from ckpt.kernel import populated, procfs
from ckpt.kernel.memory import Memory
from ckpt.kernel.pagemap import contiguous
from ckpt.records.runs import DATA, GUARD, PAGE_SIZE, U8, U64, ZERO, PageRuns
from ckpt.records.seams import RemoteTask
from ckpt.state.context import FrozenTaskLike
from ckpt.trace.freezer import freeze
from ckpt.tracker import choice

TARGETS = Path(__file__).parent.parent / "targets"
ZEROS = bytes(PAGE_SIZE)
_SPECIAL = ("[vdso]", "[vvar]", "[vvar_vclock]", "[vsyscall]")


class Mm:
    """An MmAccess made from /proc/PID/maps."""

    def __init__(self, task: FrozenTaskLike) -> None:
        self._task = task
        self.pid = task.pid
        self.mm_key = f"{task.pid}:{procfs.stat(task.pid).start_time}:{procfs.link(f'/proc/{task.pid}/exe')}"
        rows = [m for m in procfs.maps(task.pid) if not m.shared and m.path not in _SPECIAL]
        self.ranges: U64 = np.array([[m.start, m.end] for m in rows], np.uint64).reshape(-1, 2)
        self.joined = contiguous(self.ranges)
        self.vma_keys: Sequence[str] = [
            f"{'file' if m.ino else 'anon'}:{m.perms}:{m.dev}:{m.ino}:{m.offset}:{m.prot}" for m in rows
        ]

    def pinned_besides(self) -> str | None:
        return None

    def pinned(self) -> str | None:
        return None

    def remote(self) -> RemoteTask:
        return self._task.remote()


class Target:
    """The running tests/targets/memory_ops.py."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-S", "-E", str(TARGETS / "memory_ops.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.pid = self.process.pid
        assert self.process.stdout is not None
        self.a, self.b, self.c = map(int, self.process.stdout.readline().split())

    def do(self, line: str) -> str:
        """Run one line in the target; gives its answer."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


def _columns(runs: PageRuns) -> tuple[U64, U64, U8]:
    return runs.start, runs.nr_pages, runs.kind


@contextmanager
def running() -> Iterator[Target]:
    target = Target()
    try:
        yield target
    finally:
        target.end()


class Rounds:
    """Rounds of one tracker on one target; `image` is what an engine would have in its chain."""

    def __init__(self, target: Target, tracker: str) -> None:
        self.target = target
        self.tracker = tracker
        self.state: bytes | None = None
        self.image: dict[int, bytes] = {}
        self.clean: set[int] = set()
        self.reason: str | None = None

    def round(self, tracker: str | None = None) -> None:
        """One round: collect, rebuild, and compare every page of the whole address space."""
        made = choice.make(tracker or self.tracker)
        with freeze(self.target.pid, timeout=60) as tree:
            mm = Mm(tree.tasks[self.target.pid])
            clean, self.reason, self.state = made.collect(mm, self.state)
            anonymous = np.array([key.startswith("anon") for key in mm.vma_keys])
            # khugepaged may fill in holes even of a frozen task: two ways of reading may differ, but not always.
            for _ in range(3):
                again = populated.take(mm.pid, mm.ranges)
                runs = populated.take(mm.pid, mm.ranges, anonymous)
                same = [np.array_equal(a, b) for a, b in zip(_columns(runs), _columns(again), strict=True)]
                if all(same):
                    break
            assert all(same)
            tree.tasks[self.target.pid].remote().close()  # the frame is gone before the truth is read
            truth = self._truth(mm, runs)
        made.settle()
        if clean is None:
            assert self.reason or made.by_content
            self.clean = set()
        else:
            assert self.reason is None
            pages = [page for start, end in clean.tolist() for page in range(start, end)]
            self.clean = set(pages) & set(truth)
        rebuilt = {p: self.image[p] if p in self.clean and p in self.image else b for p, b in truth.items()}
        wrong = [hex(p * PAGE_SIZE) for p in truth if rebuilt[p] != truth[p]]
        assert not wrong, f"changed and yet vouched for: {wrong}"
        self.image = truth

    def _truth(self, mm: Mm, runs: PageRuns) -> dict[int, bytes]:
        """The bytes of every populated page; holes are compared too, as what they are: not there."""
        truth: dict[int, bytes] = {}
        columns = zip(runs.start.tolist(), runs.nr_pages.tolist(), runs.kind.tolist(), strict=True)
        with Memory(mm.pid) as memory:
            for start, nr_pages, kind in columns:
                if kind == GUARD:
                    truth.update((start + i, b"guard") for i in range(nr_pages))
                    continue
                data = memory.read(start * PAGE_SIZE, nr_pages * PAGE_SIZE)
                assert kind in (DATA, ZERO)
                assert kind == DATA or not any(data)
                for i in range(nr_pages):
                    truth[start + i] = data[i * PAGE_SIZE : (i + 1) * PAGE_SIZE]
        return truth

    def is_guard(self, page: int) -> bool:
        return self.image.get(page) == b"guard"

    def clean_in(self, address: int, nr_pages: int) -> set[int]:
        """The populated clean pages of an area, counted from its start."""
        first = address // PAGE_SIZE
        return {page - first for page in self.clean if first <= page < first + nr_pages}
