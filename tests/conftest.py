"""Options of the whole suite, and which target runs in which mode."""

from __future__ import annotations

import signal
import sys
import zlib
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.support import harness

# A job in the background of a script has SIGINT ignored, and would hand that on to every target.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("targets")
    group.addoption("--all-targets", action="store_true", help="every target, not one in eight")
    group.addoption("--all-modes", action="store_true", help="every target in every mode")
    group.addoption("--alone", action="store_true", help="every target without ckpt, too")
    group.addoption("--target", action="append", default=[], help="only targets whose name holds this text")
    group.addoption("--mode", action="append", default=[], help="only these modes, for every target")


def chosen_modes(target: harness.Target) -> list[harness.Mode]:
    """One mode by a hash of the name: "dump", the quickest, for two targets in three, the others for the rest."""
    modes, number = target.modes(), zlib.crc32(target.name.encode())
    return [modes[number // 3 % len(modes)] if number % 3 == 0 else modes[0]]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    option = metafunc.config.getoption
    words = option("--target")
    targets = [t for t in harness.all_targets() if not words or any(word in t.name for word in words)]
    if "lone_target" in metafunc.fixturenames:
        alone = targets if option("--alone") else []
        metafunc.parametrize("lone_target", alone, ids=[t.name for t in alone])
    if metafunc.function.__name__ == "test_target":
        pairs = []
        if not (words or option("--all-targets") or option("--all-modes")):
            targets = [t for t in targets if zlib.crc32(t.name.encode()) % 8 == 1]
        for target in targets:
            if option("--mode"):
                modes = [mode for mode in target.modes() if mode.name in option("--mode")]
            else:
                modes = target.modes() if option("--all-modes") else chosen_modes(target)
            pairs += [pytest.param(target, mode, id=f"{target.name}-{mode.name}") for mode in modes]
        metafunc.parametrize(("target", "mode"), pairs)
