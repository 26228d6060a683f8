"""Targets × modes: each small program checks itself after it was checkpointed in each way.

The default runs one target in eight, in a mode that a hash of its name chooses; `--all-targets` runs each once,
`--all-modes` the whole product, `--alone` also the programs without ckpt; `--target TEXT` and `--mode NAME` choose.
"""

from __future__ import annotations

import os

import pytest

from tests.support import harness, proc

pytestmark = [pytest.mark.root, pytest.mark.timeout(600)]


@pytest.fixture(autouse=True)
def _reaper() -> object:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    proc.become_subreaper()
    yield
    proc.become_subreaper(False)


def test_target(target: harness.Target, mode: harness.Mode) -> None:
    try:
        harness.run_mode(target, mode)
    except harness.TargetSkipped as skipped:
        pytest.skip(str(skipped))


def test_alone(lone_target: harness.Target) -> None:
    try:
        assert harness.run_alone(lone_target) == "PASS"
    except harness.TargetSkipped as skipped:
        pytest.skip(str(skipped))
