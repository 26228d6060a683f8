"""What is inside an image: tasks, mappings and files, as tables or as JSON."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

_FLAGS = ("O_APPEND", "O_NONBLOCK", "O_SYNC", "O_DSYNC", "O_ASYNC", "O_DIRECT", "O_DIRECTORY", "O_NOATIME")
_COLUMNS = {
    "tasks": ("pid", "ppid", "pgid", "sid", "state", "threads", "comm"),
    "vmas": ("mm", "start", "end", "prot", "backing", "name"),
    "files": ("file_id", "kind", "access", "flags", "pos", "descriptors", "name"),
}


def rows(source: Path, wanted: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """The rows of each wanted table of the newest image."""
    if not wanted:
        return {}
    from ckpt.chain import view

    with view(source) as image:
        makers = {"tasks": _tasks, "vmas": _vmas, "files": _files}
        return {name: list(makers[name](image)) for name in wanted}


def as_json(source: Path, wanted: Sequence[str]) -> dict[str, Any]:
    return rows(source, wanted)


def tables(source: Path, wanted: Sequence[str]) -> Iterator[Any]:
    """Rich tables."""
    from rich.table import Table
    from rich.text import Text

    for name, found in rows(source, wanted).items():
        table = Table(*_COLUMNS[name], title=name, title_justify="left")
        for row in found:
            table.add_row(*(Text(str(row[column])) for column in _COLUMNS[name]))  # "[stack]" is no markup
        yield table


def _tasks(image: Any) -> Iterator[dict[str, Any]]:
    comms = {thread.tid: thread.comm for thread in image.records("thread")}
    for task in image.records("task"):
        yield {
            "pid": task.pid, "ppid": task.ppid, "pgid": task.pgid, "sid": task.sid, "state": task.state,
            "threads": len(task.tids), "comm": comms.get(task.pid, ""),
        }  # fmt: skip


def _vmas(image: Any) -> Iterator[dict[str, Any]]:
    for mm in image.records("mm"):
        for vma in mm.vmas:
            prot = "".join(c if vma.prot & bit else "-" for c, bit in (("r", 1), ("w", 2), ("x", 4)))
            yield {
                "mm": mm.mm_id, "start": f"{vma.start:x}", "end": f"{vma.end:x}",
                "prot": prot + ("s" if vma.shared else "p"), "backing": vma.backing, "name": _shown(vma.name),
            }  # fmt: skip


def _files(image: Any) -> Iterator[dict[str, Any]]:
    users: dict[int, list[str]] = {}
    for table in image.records("fd-table"):
        for entry in table.fds:
            users.setdefault(entry.file_id, []).append(f"{table.table_id}:{entry.fd}")
    for file in image.records("file"):
        yield {
            "file_id": file.file_id, "kind": file.kind, "access": _access(file.flags),
            "flags": " ".join(name for name in _FLAGS if file.flags & getattr(os, name) == getattr(os, name)),
            "pos": file.pos, "descriptors": " ".join(users.get(file.file_id, [])), "name": _shown(file.name),
        }  # fmt: skip


def _shown(name: str) -> str:
    """A name of any bytes as text on one line."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace").replace("\n", "\\n")


def _access(flags: int) -> str:
    return "path" if flags & os.O_PATH else ("r", "w", "rw", "-")[flags & os.O_ACCMODE]
