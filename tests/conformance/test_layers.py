"""The code keeps its own rules: layers, types, lint, generated text. root: not needed; guest: no."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent


def passes(where: Path, *command: str) -> None:
    """Run a tool of the virtual environment from `where`; a failure shows what it printed."""
    done = subprocess.run(command, cwd=where, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stdout + done.stderr


def test_layers_point_downwards() -> None:
    passes(ROOT, sys.executable, "-c", "from importlinter.cli import lint_imports_command as run; run()", "--no-cache")


def test_ruff_finds_nothing() -> None:
    passes(ROOT, sys.executable, "-m", "ruff", "check", "--no-cache", "ckpt", "tests")


@pytest.mark.timeout(600)
def test_types_are_strict(tmp_path: Path) -> None:
    passes(ROOT, sys.executable, "-m", "mypy", "--cache-dir", str(tmp_path))


def test_generated_tables_are_up_to_date() -> None:
    passes(ROOT, sys.executable, "scripts/gen_tables", "--check")


def test_files_stay_short_enough_to_read() -> None:
    long = {
        str(p.relative_to(ROOT)): n for p in ROOT.glob("ckpt/**/*.py") if (n := len(p.read_text().splitlines())) > 400
    }
    assert not long
