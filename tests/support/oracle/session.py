"""One run of the oracle: a target that takes steps, rounds of ckpt on it, and the comparison after each."""

from __future__ import annotations

import os
import random
import shutil
import signal
import struct
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

import ckpt
from ckpt import chain
from ckpt.errors import NotDumpable
from tests.support import huge_pages, proc
from tests.support.commands import WAIT, as_user, commands
from tests.support.oracle import restored, truth
from tests.support.oracle.kinds import FILES as _FILES
from tests.support.oracle.kinds import MEMFDS as _MEMFDS
from tests.support.oracle.kinds import Kinds
from tests.support.oracle.orders import CONTROL, NUMBERS
from tests.support.oracle.steps import (
    ADVICE,
    DONTUNMAP,
    FIXED,
    MAYMOVE,
    MREMAP_FIXED,
    STAGE,
    Step,
)
from tests.support.oracle.truth import PAGE

_SOURCE = Path(__file__).with_name("target.c")
_PUNCH_HOLE = 1 | 2  # FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE
_MOST_CHILDREN = 2
_HUGE_PAGES = 64
# The kernel writes to an rseq area whenever a thread changes its CPU.
_ENVIRONMENT = {"GLIBC_TUNABLES": "glibc.pthread.rseq=0"}


class Mismatch(AssertionError):
    """An image, or a restored tree, is not what memory was."""


class Session(Kinds):
    """A target and its chain. `close` ends both; `apply` raises Mismatch.

    With a `user` the target and ckpt are his: nothing is restored, and of what he may not see a dump may be refused.
    """

    def __init__(self, directory: Path, program: Path, user: int | None = None) -> None:
        super().__init__()
        self.user = user
        self.refused = 0
        if user is not None:
            os.chown(directory, user, user)
        self.directory = directory
        self.chain = directory / "chain-0"
        self.pids: list[int] = []
        self.spinning: set[int] = set()
        self.grown: dict[int, int] = {}
        self.rounds = self.vouched = self.files = self.compared = 0
        self._program = program
        self.process = subprocess.Popen(
            [str(program)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            close_fds=True, cwd=directory, env=_ENVIRONMENT, start_new_session=True, **as_user(user),
        )  # fmt: skip
        self.arrived(self.process.pid)
        self.pids = [self.process.pid]

    def posix_prefix(self) -> str:
        """See Kinds."""
        return f"{self.directory.name}-"

    # ------------------------------------------------------------ steps

    def apply(self, step: Step) -> None:
        """Take one step; impossible ones do nothing, as the kernel says."""
        pid = self.pids[min(step.who, len(self.pids) - 1)]
        name = "_" + "".join(c if c.isalpha() else "_" for c in step.op)
        getattr(self, name)(pid, *step.args)

    def _map(self, pid: int, page: int, n: int, prot: int, flags: int) -> None:
        self.call(pid, "mmap", STAGE + page * PAGE, n * PAGE, prot, flags, -1, 0)

    _map_shared = _map_huge = _map_wide = _map

    def _unmap(self, pid: int, page: int, n: int) -> None:
        self.call(pid, "munmap", STAGE + page * PAGE, n * PAGE)

    def _protect(self, pid: int, page: int, n: int, prot: int) -> None:
        self.call(pid, "mprotect", STAGE + page * PAGE, n * PAGE, prot)

    def _move(self, pid: int, page: int, n: int, to: int, n_after: int) -> None:
        flags = MAYMOVE | MREMAP_FIXED
        self.call(pid, "mremap", STAGE + page * PAGE, n * PAGE, n_after * PAGE, flags, STAGE + to * PAGE)

    def _move__keep(self, pid: int, page: int, n: int, to: int) -> None:
        flags = MAYMOVE | MREMAP_FIXED | DONTUNMAP
        self.call(pid, "mremap", STAGE + page * PAGE, n * PAGE, n * PAGE, flags, STAGE + to * PAGE)

    def _resize(self, pid: int, page: int, n: int, n_after: int, flags: int) -> None:
        at = self.call(pid, "mremap", STAGE + page * PAGE, n * PAGE, n_after * PAGE, flags, 0)
        if at > 0 and not STAGE <= at < STAGE + (1 << 30):
            self.call(pid, "munmap", at, n_after * PAGE)  # it went somewhere else

    def _advise(self, pid: int, page: int, n: int, advice: str) -> None:
        self.call(pid, "madvise", STAGE + page * PAGE, n * PAGE, ADVICE[advice])

    def _lock(self, pid: int, page: int, n: int) -> None:
        self.call(pid, "mlock", STAGE + page * PAGE, n * PAGE)

    def _unlock(self, pid: int, page: int, n: int) -> None:
        self.call(pid, "munlock", STAGE + page * PAGE, n * PAGE)

    def _brk(self, pid: int, n: int, value: int) -> None:
        now = self.call(pid, "brk", 0)
        n = max(n, -self.grown.get(pid, 0))
        if self.call(pid, "brk", now + n * PAGE) == now + n * PAGE:
            self.grown[pid] = self.grown.get(pid, 0) + n
            self.order(pid, "WRITE_BYTES", now, max(n, 0), value)

    def _deepen(self, pid: int, depth: int) -> None:
        self.order(pid, "DEEPEN", depth)

    def _fill(self, pid: int, page: int, n: int, seed: int) -> None:
        self.order(pid, "FILL", STAGE + page * PAGE, n, seed)

    def _write(self, pid: int, page: int, n: int, value: int) -> None:
        self.order(pid, "WRITE_BYTES", STAGE + page * PAGE, n, value)

    def _scatter(self, pid: int, page: int, n: int, stride: int, value: int) -> None:
        self.order(pid, "SCATTER", STAGE + page * PAGE, n, stride, value)

    def _advise_each(self, pid: int, page: int, n: int, stride: int, advice: str) -> None:
        self.order(pid, "ADVISE_EACH", STAGE + page * PAGE, n, stride, ADVICE[advice])

    def _same_bytes(self, pid: int, page: int, n: int) -> None:
        self.order(pid, "WRITE_BYTES", STAGE + page * PAGE, n, 0)

    def _read(self, pid: int, page: int, n: int) -> None:
        self.order(pid, "READ_BYTES", STAGE + page * PAGE, n)

    def _fork_and_write(self, pid: int, page: int, n: int, value: int) -> None:
        self.order(pid, "FORK_WRITE", STAGE + page * PAGE, n, value)

    def _vfork(self, pid: int, page: int, n: int, value: int) -> None:
        self.order(pid, "VFORK", STAGE + page * PAGE, n, value)

    def _child(self, pid: int) -> None:
        if len(self.pids) > _MOST_CHILDREN:
            return
        child = self.order(pid, "CHILD")
        if child > 0:
            self.numbers[child] = self.numbers[pid]
            self.grown[child] = self.grown.get(pid, 0)
            self.pids.append(child)

    def _exec(self, pid: int) -> None:
        self.spinning.discard(pid)
        self.grown.pop(pid, None)
        # After another exec the page says "here" already.
        truth.write_from_outside(pid, CONTROL + 8 * 10, struct.pack("<q", 0), through_mem=False)
        self.order(pid, "EXEC", wait=False)
        self.arrived(pid)

    def _leave(self, pid: int) -> None:
        if pid == self.pids[0] or self._children(pid):
            return
        self.order(pid, "LEAVE", wait=False)
        self.pids.remove(pid)
        self.spinning.discard(pid)
        end = time.monotonic() + WAIT
        while not proc.is_dead(pid) and time.monotonic() < end:
            time.sleep(0.001)
        for left in self.pids:
            self.order(left, "REAP")

    @staticmethod
    def _children(pid: int) -> list[str]:
        return [c for t in Path(f"/proc/{pid}/task").iterdir() for c in (t / "children").read_text().split()]

    def _spin(self, pid: int, place: int, page: int, n: int) -> None:
        if self.order(pid, "SPIN", place, STAGE + page * PAGE, n) == 0:
            self.spinning.add(pid)

    def _rest(self, pid: int) -> None:
        self.order(pid, "REST")
        self.spinning.discard(pid)

    def _rest_all(self) -> None:
        for pid in list(self.spinning):
            self._rest(pid)

    # ------------------------------------------------------------ memfds and files

    def _memfd(self, pid: int, slot: int, n: int) -> None:
        fd = self.order(pid, "CALL", NUMBERS["memfd_create"], CONTROL + 1024, 3, text=f"slot {slot}")
        if fd >= 0:
            self.call(pid, "dup3", fd, _MEMFDS + slot, 0)
            self.call(pid, "close", fd)
            self.call(pid, "ftruncate", _MEMFDS + slot, n * PAGE)

    def _file(self, pid: int, slot: int, n: int, unlinked: int) -> None:
        self.files += 1
        name = self.directory / f"file-{self.files}"
        self.order(pid, "FILE_AT", _FILES + slot, n, unlinked, text=str(name))

    def _map_at(self, pid: int, fd: int, page: int, n: int, offset: int, kind: int, prot: int) -> None:
        self.call(pid, "mmap", STAGE + page * PAGE, n * PAGE, prot, kind | FIXED, fd, offset * PAGE)

    def _map_memfd(self, pid: int, slot: int, *args: int) -> None:
        self._map_at(pid, _MEMFDS + slot, *args)

    def _map_file(self, pid: int, slot: int, *args: int) -> None:
        self._map_at(pid, _FILES + slot, *args)

    _map_wide_file = _map_file

    def _write_memfd(self, pid: int, slot: int, offset: int, size: int, value: int) -> None:
        self.order(pid, "WRITE_FILE", _MEMFDS + slot, offset, size, value)

    def _write_file(self, pid: int, slot: int, offset: int, size: int, value: int) -> None:
        self.order(pid, "WRITE_FILE", _FILES + slot, offset, size, value)

    def _truncate_memfd(self, pid: int, slot: int, n: int) -> None:
        self.call(pid, "ftruncate", _MEMFDS + slot, n * PAGE)

    def _truncate_file(self, pid: int, slot: int, n: int) -> None:
        self.call(pid, "ftruncate", _FILES + slot, n * PAGE)

    def _punch_memfd(self, pid: int, slot: int, page: int, n: int) -> None:
        self.call(pid, "fallocate", _MEMFDS + slot, _PUNCH_HOLE, page * PAGE, n * PAGE)

    def _punch_file(self, pid: int, slot: int, page: int, n: int) -> None:
        self.call(pid, "fallocate", _FILES + slot, _PUNCH_HOLE, page * PAGE, n * PAGE)

    def _write_from_outside(self, pid: int, page: int, n: int, value: int, how: str) -> None:
        data = random.Random(value).randbytes(min(n, 16) * PAGE - 200)
        truth.write_from_outside(pid, STAGE + page * PAGE + 100, data, through_mem=how == "mem")

    # ------------------------------------------------------------ rounds

    def _round(self, pid: int, kind: str, tracker: str, how: str) -> None:
        match kind:
            case "chain":
                self._new_chain()
            case "merge":
                if self.chain.exists():
                    self._merge()
            case "cycle":
                if self.user is None:
                    self._cycle(tracker)
            case _:
                self._take(kind, tracker, how)

    def _new_chain(self) -> None:
        """Another directory: the trackers' state stays behind in the old one, as when a user changes -D."""
        shutil.rmtree(self.chain, ignore_errors=True)
        self.chain = self.chain.with_name(f"chain-{int(self.chain.name.split('-')[1]) + 1}")

    def _take(self, kind: str, tracker: str, how: str) -> None:
        dump = kind == "leave-running"
        if dump:
            self._rest_all()
        root = self.pids[0]
        if how == "cli" or self.user is not None:
            verb = ["dump", "--leave-running"] if dump else ["pre-dump"]
            arguments = [*verb, "-t", str(root), "-D", str(self.chain), "--tracker", tracker, "--json"]
            done = commands(self.user).run(arguments, self.directory)
            if dump and self.user is not None and done.returncode == NotDumpable.exit_code:
                self.refused += 1
                return
            if done.returncode:
                raise Mismatch(f"ckpt {' '.join(arguments)} gave {done.returncode}: {done.stderr}")
        elif dump:
            ckpt.dump(root, self.chain, tracker=tracker, leave="running")
        else:
            ckpt.pre_dump(root, self.chain, tracker=tracker)
        self.rounds += 1
        if not self.spinning:  # a user's pre-dump leaves objects that he cannot open to the dump
            self.compare(f"{kind} by {tracker}", shared=dump or self.user is None)

    def compare(self, what: str, path: Path | None = None, *, shared: bool = True) -> None:
        """Hold the newest image of the chain (or the image at `path`) against memory."""
        self.compared += 1
        with chain.view(path or self.chain) as view:
            found = truth.differences(view, self.pids, shared=shared)
            self.vouched += view.statistics.pages_skipped_parent
            reason = view.header.full_reason
        if found:
            text = "\n  ".join(found[:12])
            raise Mismatch(
                f"after {what} (round {self.rounds}, full: {reason}): {len(found)} pages are wrong\n  {text}"
            )

    def _merge(self) -> None:
        self._rest_all()
        rounds = self.rounds
        self._take("leave-running", ckpt.show(self.chain)[-1].header.tracker, "api")
        if self.rounds == rounds:
            return
        merged = self.directory / "merged.ckpt"
        ckpt.merge(self.chain, merged)
        self.compare("a merge", merged)
        merged.unlink()

    def _cycle(self, tracker: str) -> None:
        """Dump and restore: memory, mappings and processes are as before, and the run goes on with them."""
        self._rest_all()
        to_come = [restored.locked_to_come(pid, self.call) for pid in self.pids]
        before = restored.look(self.pids)
        root = self.pids[0]
        ckpt.dump(root, self.chain, tracker=tracker)
        self._all_gone()
        made = ckpt.restore(self.chain)
        if set(self.pids) - set(made.pids):
            raise Mismatch(f"restored {made.pids}, dumped {self.pids}")
        if unlike := restored.unlike(before, restored.look(self.pids)):
            raise Mismatch(f"after a restore {unlike}")
        if to_come != (now := [restored.locked_to_come(pid, self.call) for pid in self.pids]):
            raise Mismatch(f"after a restore mappings to come are {now}, were {to_come}")
        self._new_chain()

    def _all_gone(self) -> None:
        end = time.monotonic() + WAIT
        while time.monotonic() < end:
            self._reap()
            if not any(Path(f"/proc/{pid}").exists() for pid in self.pids):
                return
            time.sleep(0.001)
        raise RuntimeError("the target is still there after a dump")

    def _reap(self) -> None:
        first = self.process.pid if self.process.poll() is None else 0
        for pid in self.pids:
            try:
                if pid != first and Path(f"/proc/{pid}").exists():
                    os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                continue

    # ------------------------------------------------------------ the end

    def close(self) -> None:
        for pid in reversed(self.pids):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self._all_gone()
        self.forget_posix()
        shutil.rmtree(self.directory, ignore_errors=True)


def build(directory: Path) -> Path:
    """Compile the target, for whoever runs it."""
    directory.chmod(0o755)
    program = directory / "oracle-target"
    subprocess.run(["gcc", "-O1", "-pthread", "-o", str(program), str(_SOURCE)], check=True)
    return program


def run(steps: Sequence[Step], program: Path, *, say: bool = False, user: int | None = None) -> tuple[int, str] | None:
    """Take all steps; (number of the step, what was wrong) when one shows a mismatch. Needs a subreaper."""
    session = Session(Path(tempfile.mkdtemp(prefix="ckpt-oracle-")), program, user)
    allowed = ExitStack()
    with suppress(OSError):  # else hugetlb mappings are impossible ones
        allowed.enter_context(huge_pages.raised(_HUGE_PAGES))
    try:
        for number, step in enumerate(steps):
            try:
                session.apply(step)
            except (Mismatch, ckpt.CkptError) as error:
                return number, f"{type(error).__name__}: {error}"
            if say and step.op == "round":
                print(
                    f"step {number}: {step.args}, {len(session.pids)} processes, {session.vouched} vouched, "
                    f"{session.compared} compared, {session.refused} refused",
                    flush=True,
                )
        return None
    finally:
        session.close()
        allowed.close()
