"""KSM, which puts one page for several that hold the same bytes, and what it tells of its work."""

from __future__ import annotations

import time
from pathlib import Path

from ckpt.errors import NoSuchTask
from ckpt.kernel.procfs import read_bytes
from ckpt.kernel.standins import entry

_KSM = Path("/sys/kernel/mm/ksm")


def merged_pages(pid: int) -> bool:
    """Whether pages of the task are merged with others."""
    try:
        return int(read_bytes(f"/proc/{entry(pid)}/ksm_merging_pages", pid)) > 0
    except (NoSuchTask, ValueError):
        return False  # before Linux 5.19, or without KSM


def runs() -> bool:
    """Whether it looks for pages to merge."""
    return _read("run") == "1"


def scans() -> str:
    """How far it has got, on the whole host: the same again when it has looked at no page in between.

    Nothing tells whether a task had merged pages once: MADV_UNMERGEABLE gives them back, and all counts with them.
    """
    pages = _read("pages_scanned")
    if not pages and runs():  # before Linux 6.6
        return f"running at {time.monotonic_ns()}"
    return f"{_read('full_scans')} {pages}"


def _read(name: str) -> str:
    try:
        return (_KSM / name).read_text().strip()
    except OSError:
        return ""
