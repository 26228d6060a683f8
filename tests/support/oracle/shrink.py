"""Fewer steps that still show a mismatch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tests.support.oracle.steps import Step

Fails = Callable[[Sequence[Step]], bool]


def shrink(steps: Sequence[Step], fails: Fails, trials: int = 200) -> list[Step]:
    """Leave out ever smaller parts as long as the rest still fails; `trials` bounds how often it is tried."""
    left = list(steps)
    size = max(1, len(left) // 2)
    while trials > 0:
        at, shorter = 0, False
        while at < len(left) and trials > 0:
            candidate = left[:at] + left[at + size :]
            trials -= 1
            if candidate and fails(candidate):
                left, shorter = candidate, True
            else:
                at += size
        if size == 1 and not shorter:
            break
        size = max(1, size // 2) if not shorter or size > 1 else 1
    return left
