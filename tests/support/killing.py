"""ckpt killed in the middle of a verb; what must hold afterwards: target, chain and host as if nothing had been."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from tests.support import harness, proc
from tests.support.commands import commands

VERBS = ("first", "pre-dump", "leave-running", "leave-stopped", "dump", "precopy", "merge", "restore")
_KILLED = 1 << (signal.SIGKILL - 1)
_SETTLE = 20.0  # seconds in which a target that was let go of must be as it was


@dataclass(frozen=True)
class Look:
    """What a freeze must leave as it is, seen from outside."""

    descriptors: tuple[tuple[str, str], ...]
    maps: tuple[str, ...]
    children: tuple[str, ...]
    threads: tuple[tuple[str, str, str], ...]  # tid, blocked signals, Seccomp


def look(pid: int) -> Look:
    proc = Path(f"/proc/{pid}")
    fds = []
    for name in sorted((proc / "fd").iterdir()):
        with suppress(FileNotFoundError):  # the target looks at its descriptors, too
            if (link := os.readlink(name)) != f"/proc/{pid}/fd":
                fds.append((name.name, link))
    lines = [line.split(maxsplit=5) for line in (proc / "maps").read_text().splitlines()]
    children = (proc / f"task/{pid}/children").read_text().split()
    threads = []
    for task in sorted((proc / "task").iterdir()):
        status = dict(line.split(":", 1) for line in (task / "status").read_text().splitlines())
        threads.append((task.name, status["SigBlk"].strip(), status.get("Seccomp", "").strip()))
    # A stack may have grown: it does by itself, too.
    maps = tuple(" ".join(line) for line in lines if line[-1] != "[stack]")
    return Look(tuple(fds), maps, tuple(children), tuple(threads))


def steady_look(pid: int) -> Look:
    """What two looks agree upon: what the target has open for a moment is nothing that must stay."""
    end = time.monotonic() + _SETTLE
    found = look(pid)
    while True:
        time.sleep(0.005)
        again = look(pid)
        if found == again or time.monotonic() > end:
            return again
        found = again


def traced_or_stopped(pid: int) -> list[str]:
    """What is wrong with each thread; one that ends meanwhile, in a tree that is being killed, counts."""
    found = []
    try:
        tids = os.listdir(f"/proc/{pid}/task")
    except FileNotFoundError:
        return [f"{pid}: has just ended"]
    for tid in tids:
        try:
            lines = Path(f"/proc/{pid}/task/{tid}/status").read_text().splitlines()
        except (FileNotFoundError, ProcessLookupError):
            found.append(f"{tid}: has just ended")
            continue
        status = dict(line.split(":", 1) for line in lines)
        if (int(status["SigPnd"], 16) | int(status["ShdPnd"], 16)) & _KILLED:
            found.append(f"{tid}: about to die")  # with its tracer, as soon as it gets a processor
        elif status["TracerPid"].strip() != "0" or status["State"].strip()[0] in "tT":
            found.append(f"{tid}: {status['State'].strip()}, tracer {status['TracerPid'].strip()}")
    return found


class Killing:
    """One target that goes through many deaths of ckpt; `close` belongs to the Run."""

    def __init__(self, run: harness.Run, tracker: str = "auto", extra: list[str] | None = None) -> None:
        self.run = run
        self.tracker = ["--tracker", tracker]
        self.extra = extra or []  # options of dumps
        self.number = self.deaths = 0
        self.stopped = self._stopped()  # by the target itself
        self.masks: dict[str, int] = {}  # tid -> signals blocked in every look before a death: no handler's own
        self.chain = self.ended = run.images / "none"  # `ended`: one that ends in a dump
        self.fresh()

    # ------------------------------------------------------------ commands

    def fresh(self) -> None:
        """A chain of its own for the next deaths."""
        shutil.rmtree(self.run.images, ignore_errors=True)
        self.number += 1
        self.chain = self.run.images / str(self.number)

    def ckpt(self, *arguments: str) -> dict[str, object]:
        del self.run.history[:-20]
        return self.run.ckpt(*arguments)

    def take(self, verb: str = "pre-dump", *options: str) -> dict[str, object]:
        return self.ckpt(verb, "-t", str(self.run.pid), "-D", str(self.chain), *self.tracker, *options)

    def _arguments(self, verb: str) -> list[str]:
        take = ["-t", str(self.run.pid), "-D", str(self.chain), *self.tracker]
        match verb:
            case "first":  # the first pre-dump of a chain
                return ["pre-dump", *take]
            case "merge":
                return ["merge", "-D", str(self.chain), "-o", str(self.run.images / "merged")]
            case "restore":
                return ["restore", "-D", str(self.chain), "--detach"]
            case "precopy":
                return ["precopy", *take, *self.extra, "--max-rounds", "2"]
            case "leave-running" | "leave-stopped":
                return ["dump", *take, *self.extra, f"--{verb}"]
        return [verb, *take, *(self.extra if verb == "dump" else [])]

    def dying(self, verb: str, **death: object) -> int:
        """Run a verb that is to die; its exit code (negative: the signal)."""
        arguments = self._arguments(verb)
        done = commands().run([*arguments, "--json"], self.run.dir, **death)
        self.run.history.append(f"$ ckpt {' '.join(arguments)} {death} -> {done.returncode}\n{done.stderr}")
        return done.returncode

    def calls(self, verb: str) -> list[str]:
        """The calls of a verb that can be died before; it runs to its end."""
        self.prepare(verb)
        report = self.run.dir / "calls"
        code = self.dying(verb, die_at=0, calls=str(report))
        if code != 0:
            self.run.fail(f"{verb} gave {code}")
        self.recover(verb)
        return report.read_text().splitlines()

    # ------------------------------------------------------------ one death

    def prepare(self, verb: str) -> None:
        """A chain in which a verb can go on; a live one serves for some deaths, and one that has ended to be merged."""
        self.deaths += 1
        serves = self.chain.exists() and self.deaths % 8 != 1 and (verb != "merge" or self.ended == self.chain)
        if verb not in ("first", "restore") and serves:
            return
        self.fresh()
        if verb == "first":
            return
        if verb != "restore" or self.deaths % 2:  # else the dump stands alone
            self.take()
        if verb in ("merge", "restore"):
            self.take("dump", *self.extra, *(["--leave-running"] if verb == "merge" else []))
            self.ended = self.chain
        if verb == "restore":
            self.run.gone()

    def once(self, verb: str, **death: object) -> int:
        """Prepare, die as `death` says, look at everything, and go on; gives the exit code of the verb."""
        self.prepare(verb)
        before = self._usual(steady_look(self.run.pid)) if verb != "restore" else None
        code = self.dying(verb, **death)
        if before is not None:
            self.unharmed(before, verb)
        self.recover(verb)
        return code

    def _usual(self, seen: Look) -> Look:
        """Without the signals that a thread blocks while it is in a handler, which on a busy machine may take long."""
        threads = []
        for tid, blocked, seccomp in seen.threads:
            self.masks[tid] = self.masks.get(tid, -1) & int(blocked, 16)
            threads.append((tid, f"{self.masks[tid]:016x}", seccomp))
        return replace(seen, threads=tuple(threads))

    def alive(self) -> bool:
        return Path(f"/proc/{self.run.pid}").exists() and not proc.is_dead(self.run.pid)

    def unharmed(self, before: Look, verb: str) -> None:
        """The target is as before, or was ended by a dump whose image stands."""
        end = time.monotonic() + _SETTLE
        while True:
            self.run.reap()
            if verb in ("dump", "precopy") and not self.alive():
                self._has_dump(verb)
                return
            left = self._stopped() - self.stopped
            if verb == "leave-stopped":
                for pid in left:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGCONT)
            try:
                wrong = traced_or_stopped(self.run.pid) + [f"{pid} is stopped" for pid in left]
                now = look(self.run.pid)
            except OSError as error:
                wrong, now = [str(error)], before
            if not wrong and now == before:
                break
            if time.monotonic() > end:
                self.run.fail(f"{verb}: the target is not as it was: {wrong}\nbefore {before}\nnow {now}")
            time.sleep(0.005)
        if (verdict := self.run.verdict()) is not None:
            self.run.fail(f"{verb}: the target says {verdict}")

    def _has_dump(self, verb: str) -> None:
        """What ended the target left an image that it can be restored from."""
        if not self.chain.is_dir():
            self.run.fail(f"{verb}: somebody took {self.chain} away")
        images = self.ckpt("show", "-D", str(self.chain))["images"]
        assert isinstance(images, list)
        if images[-1]["kind"] != "dump":
            self.run.fail(f"{verb}: the target ended ({self.run.ends.get(self.run.pid)}), and there is no dump of it")

    def _stopped(self) -> set[int]:
        """The processes of the tree that are stopped, by a signal or a tracer."""
        abouts = {pid: proc.parent_and_session(pid) for pid in self.run.mine()}
        return {pid for pid, about in abouts.items() if about is not None and about[2] in "tT"}

    def recover(self, verb: str) -> None:
        """What a user does next must work: verify, another round, a restore of what was ended."""
        if verb == "restore":
            # Nothing half-built is left, or all of it runs; a killed task may take a moment to be gone.
            self._settled_restore()
            if not self.alive():
                self.run.restore(self.chain)
        elif not self.alive():
            self.run.gone()
            self.run.restore(self.chain)
        elif verb == "merge":
            shutil.rmtree(self.run.images / "merged", ignore_errors=True)
            self.ckpt("merge", "-D", str(self.chain), "-o", str(self.run.images / "merged"))
            self.ckpt("verify", "-D", str(self.run.images / "merged"))
        else:
            self.take()
            if self.deaths % 4 == 0:
                self.ckpt("verify", "-D", str(self.chain))
        if (verdict := self.run.verdict()) is not None:
            self.run.fail(f"after {verb}: the target says {verdict}")

    def _settled_restore(self) -> None:
        end = time.monotonic() + _SETTLE
        seen = 0
        while True:
            self.run.reap()
            if not Path(f"/proc/{self.run.pid}").exists():
                return
            # A task that dies with its tracer is untraced for a moment, and its leader may be gone before its threads.
            about = proc.parent_and_session(self.run.pid)
            runs = about is not None and about[2] not in "ZX" and not traced_or_stopped(self.run.pid)
            seen = seen + 1 if runs else 0
            if seen > 40:
                return
            if time.monotonic() > end:
                self.run.fail("a restore that was killed has left something behind")
            time.sleep(0.005)

    def brought_back(self) -> None:
        """A dump and a restore of the target after all that happened to it."""
        self.fresh()
        self.take("dump", *self.extra)
        self.run.gone()
        self.run.restore(self.chain)


@contextmanager
def victim(target: harness.Target, tracker: str = "auto", extra: list[str] | None = None) -> Iterator[Killing]:
    """A target to be killed upon; at the end it is brought back once more, and must pass."""
    run = harness.Run(target)
    (run.work / "tolerant").touch()
    try:
        run.start()
        killing = Killing(run, tracker, extra)
        yield killing
        killing.brought_back()
        run.expect_pass()
    finally:
        run.close()


def random_deaths(
    killing: Killing, times: int, seed: int, say: Callable[[str], None], verbs: Sequence[str] = VERBS
) -> int:
    """`times` deaths at random instants of random `verbs`; gives how many verbs were really cut short."""
    rng = random.Random(seed)
    took: dict[str, float] = {}
    cut = 0
    for number in range(times):
        verb = rng.choice(verbs)
        if verb not in took:
            started = time.monotonic()
            killing.prepare(verb)
            prepared = time.monotonic()
            killing.dying(verb, die_at=0, calls=os.devnull)
            took[verb] = time.monotonic() - prepared
            killing.recover(verb)
            say(f"{verb}: prepared in {prepared - started:.2f} s, takes {took[verb]:.2f} s")
        code = killing.once(verb, kill_after=rng.random() * took[verb])
        cut += code == -signal.SIGKILL
        say(f"{number + 1}/{times} {verb} -> {code}")
    return cut
