"""Trees of many targets at once: no state may be in the way of another, in the freeze, the image or the restore.

Others, and more of them: CKPT_TOGETHER="SEED COUNT".
"""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
from collections.abc import Iterator, Sequence

import pytest

from tests.support import harness, proc
from tests.support.harness import MODES, Mode, Run, Target, TargetFailed

pytestmark = [
    pytest.mark.root,
    pytest.mark.timeout(600),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: restores under the old pids"),
    pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc"),
]
FIRST, COUNT = map(int, os.environ.get("CKPT_TOGETHER", "1 3").split())
MEMBERS = 10


class Together(Run):
    """The root of a tree in which each target's root is a child."""

    def __init__(self, targets: Sequence[Target]) -> None:
        super().__init__(Target(harness.TARGETS / "together"))
        self.members = list(map(Run, targets))
        told = [
            {"work": str(member.work), "command": member.command(), "environment": member.environment()}
            for member in self.members
        ]
        (self.work / "members").write_text(json.dumps(told))

    def command(self) -> list[str]:
        return [sys.executable, "-S", "-B", str(harness.SUPPORT / "together.py"), str(self.work)]

    def start(self) -> None:
        super().start()
        for pid in proc.processes():
            about = proc.parent_and_session(pid)
            if about and about[0] == self.pid:
                self.sessions.add(about[1])

    def mine(self) -> list[int]:
        return super().mine() + [pid for member in self.members for pid in member.mine()]

    def close(self) -> None:
        super().close()
        for member in self.members:
            member.close()

    def wrong(self) -> dict[str, str]:
        """The verdicts, by target, that are neither PASS nor SKIP."""
        verdicts = {member.target.name: member.verdict() or "none" for member in self.members}
        return {name: text for name, text in verdicts.items() if not text.startswith(("PASS", "SKIP"))}


@pytest.fixture(autouse=True)
def _reaper() -> Iterator[None]:
    proc.become_subreaper()
    yield
    proc.become_subreaper(False)


def fits(target: Target, mode: Mode) -> bool:
    """A snapshot is of memory alone: files that the original writes on are not what they were for the copy."""
    return not target.refused and (target.about_memory or not mode.snapshot)


@pytest.mark.parametrize("seed", [FIRST + number for number in range(COUNT)])
def test_together(seed: int) -> None:
    rng = random.Random(seed)
    mode: Mode = rng.choice(list(MODES.values()))
    targets = rng.sample([target for target in harness.all_targets() if fits(target, mode)], MEMBERS)
    together = Together(targets)
    try:
        together.start()
        together.checkpointed(mode)
        verdict = together.go()
        wrong = together.wrong()
        if verdict != "PASS" or wrong:
            together.fail(f"{mode.name}, of {[target.name for target in targets]}: {wrong or verdict}")
    except TargetFailed as failed:
        pytest.fail(f"{failed}\nagain: CKPT_TOGETHER='{seed} 1' pytest {__file__}")
    finally:
        together.close()
