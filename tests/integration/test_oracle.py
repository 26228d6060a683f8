"""Random steps on memory, rounds at random instants: every image is what memory was. See tests/support/oracle.

Longer runs, other seeds and the steps behind a failure: scripts/oracle.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from ckpt.errors import CkptError
from ckpt.tracker import choice
from tests.support import proc
from tests.support.commands import as_user
from tests.support.oracle import session
from tests.support.oracle.steps import OPS, PRIVATE, READ, WRITE, Step, steps

pytestmark = [
    pytest.mark.root,
    pytest.mark.guest,
    pytest.mark.timeout(600),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: restores under the old pids"),
    pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc"),
]

ROOT = Path(__file__).resolve().parent.parent.parent
IN_GUEST = bool(os.environ.get("CKPT_GUEST"))
WORKING = [name for name in choice.NEEDS if not choice.missing(name)]
USER = 65534
COUNT = 80 if IN_GUEST else 300


@pytest.fixture(scope="module")
def program() -> Iterator[Path]:
    proc.become_subreaper()
    with tempfile.TemporaryDirectory(prefix="ckpt-oracle-") as directory:
        yield session.build(Path(directory))
    proc.become_subreaper(False)


def verdict(planned: list[Step], program: Path, how: str, user: int | None = None) -> None:
    wrong = session.run(planned, program, user=user)
    if wrong is not None:
        number, text = wrong
        pytest.fail(f"step {number}, {planned[number]}: {text}\nagain: scripts/oracle {how} --shrink")


@pytest.mark.parametrize("seed", [1] if IN_GUEST else [1, 2])
@pytest.mark.parametrize("tracker", choice.NEEDS)
def test_fixed_seeds(tracker: str, seed: int, program: Path) -> None:
    if tracker not in WORKING:
        pytest.skip(choice.missing(tracker)[0].evidence)
    verdict(steps(seed, COUNT, [tracker]), program, f"--seed {seed} --steps {COUNT} --tracker {tracker}")


@pytest.mark.skipif(IN_GUEST, reason="fixed seeds of root are enough under emulation")
@pytest.mark.parametrize("tracker", ["write-protect", "content-hash"])
def test_of_a_user(tracker: str, program: Path) -> None:
    """The target and ckpt without any rights, the truth root's; what a user may not see may be refused."""
    if tracker not in WORKING:
        pytest.skip(choice.missing(tracker)[0].evidence)
    command = [sys.executable, "-B", "-m", "ckpt", "--version"]
    if subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, **as_user(USER)).returncode:
        pytest.skip("another user cannot run this interpreter or read this checkout")
    how = f"--seed 3 --steps 110 --every 10 --tracker {tracker} --user {USER}"
    verdict(steps(3, 110, [tracker], every=10), program, how, USER)


together = pytest.mark.parametrize("trackers", [pytest.param(WORKING, id="+".join(WORKING))])


@together
def test_trackers_take_turns(trackers: list[str], program: Path) -> None:
    verdict(steps(3, COUNT, trackers), program, f"--seed 3 --steps {COUNT} --tracker all")


@together
def test_another_seed_each_time(trackers: list[str], program: Path) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    verdict(steps(seed, COUNT, trackers), program, f"--seed {seed} --steps {COUNT} --tracker all")


def _rounds(kinds: str) -> list[Step]:
    return [Step("round", 0, (kind, WORKING[0], "api")) for kind in kinds.split()]


NAMED = {
    "more regions of a file's pages than PAGEMAP_SCAN keeps at a time": [
        Step("file", 0, (0, 2600, 0)),
        Step("map wide file", 0, (0, 0, 2500, 0, PRIVATE, READ | WRITE)),
        Step("scatter", 0, (0, 2500, 2, 7)),
        *_rounds("pre-dump pre-dump"),
        Step("scatter", 0, (0, 2500, 3, 9)),
        *_rounds("pre-dump leave-running cycle"),
    ],
}


@pytest.mark.parametrize("name", NAMED)
def test_what_was_wrong_once(name: str, program: Path) -> None:
    verdict(NAMED[name], program, "")


# ---------------------------------------------------------------- by hypothesis


class Machine(RuleBasedStateMachine):
    """The same steps, chosen and shrunk by hypothesis."""

    program: Path

    def __init__(self) -> None:
        super().__init__()
        self.session = session.Session(Path(tempfile.mkdtemp(prefix="ckpt-oracle-")), self.program)

    @rule(op=st.sampled_from(sorted(OPS)), who=st.integers(0, 2), choice_of=st.randoms(use_true_random=False))
    def step(self, op: str, who: int, choice_of: random.Random) -> None:
        self.session.apply(Step(op, who, OPS[op][1](choice_of)))

    @rule(tracker=st.sampled_from(WORKING), kind=st.sampled_from(["pre-dump", "leave-running"]))
    def round(self, tracker: str, kind: str) -> None:
        try:
            self.session.apply(Step("round", 0, (kind, tracker, "api")))
        except CkptError as error:
            raise AssertionError(f"{kind} by {tracker}: {error}") from error

    def teardown(self) -> None:
        self.session.close()


@pytest.mark.skipif(IN_GUEST, reason="the seeded steps are enough under emulation")
def test_by_hypothesis(program: Path) -> None:
    Machine.program = program
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=5,
            stateful_step_count=25,
            derandomize=True,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.skipif(IN_GUEST or not (ROOT / ".venv/ckpt-stamp").exists(), reason="needs the checkout's own .venv")
def test_the_script_alone() -> None:
    """As a user starts it, with whatever interpreter PATH has first; also from another directory."""
    command = [str(ROOT / "scripts/oracle"), "--seed", "7", "--steps", "5", "--tracker", "content-hash"]
    done = subprocess.run(command, cwd="/", capture_output=True, text=True, timeout=240, stdin=subprocess.DEVNULL)
    assert done.returncode == 0 and "every byte right" in done.stdout, done.stdout + done.stderr
