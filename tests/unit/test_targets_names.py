"""What the targets are called: python finds their directory before that of the modules which they share."""

from __future__ import annotations

from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent


def test_no_target_hides_a_module_that_others_import() -> None:
    modules = {path.stem for path in (TESTS / "support").glob("*.py")}
    targets = {path.stem for path in (TESTS / "targets").glob("*/*.py")}
    assert modules and targets and not modules & targets
