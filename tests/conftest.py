"""Options of the whole suite, and which target runs in which mode."""

from __future__ import annotations

import sys
import zlib
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.support import harness


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("targets")
    group.addoption("--all-modes", action="store_true", help="every target in every mode")
    group.addoption("--alone", action="store_true", help="every target without ckpt, too")
    group.addoption("--target", action="append", default=[], help="only targets whose name holds this text")
    group.addoption("--mode", action="append", default=[], help="only these modes, for every target")


def chosen_modes(target: harness.Target) -> list[harness.Mode]:
    """One mode by a hash of the name, so that the modes share the targets out among them."""
    modes = target.modes()
    return [modes[zlib.crc32(target.name.encode()) % len(modes)]]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    option = metafunc.config.getoption
    words = option("--target")
    targets = [t for t in harness.all_targets() if not words or any(word in t.name for word in words)]
    if "lone_target" in metafunc.fixturenames:
        alone = targets if option("--alone") else []
        metafunc.parametrize("lone_target", alone, ids=[t.name for t in alone])
    if metafunc.function.__name__ == "test_target":
        pairs = []
        for target in targets:
            if option("--mode"):
                modes = [mode for mode in target.modes() if mode.name in option("--mode")]
            else:
                modes = target.modes() if option("--all-modes") else chosen_modes(target)
            pairs += [pytest.param(target, mode, id=f"{target.name}-{mode.name}") for mode in modes]
        metafunc.parametrize(("target", "mode"), pairs)
