"""What several files of these tests start."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import proc
from tests.support.programs import Program


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    """A real program, with its directory; what is left of it ends with the test."""
    proc.become_subreaper()
    made = Program(tmp_path)
    try:
        yield made
    finally:
        made.end()
        proc.become_subreaper(False)
