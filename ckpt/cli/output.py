"""What the commands print: tables and sentences for people, one JSON object for programs."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

from ckpt.cli.interrupts import Interrupted
from ckpt.errors import CkptError, UsageError

if TYPE_CHECKING:
    from ckpt.chain.directory import ImageInfo
    from ckpt.engine.progress import Progress
    from ckpt.records.image import ImageHeader, Statistics

STATISTICS = (
    "freezing_time", "frozen_time", "snapshot", "snapshot_reason", "memdump_time", "memwrite_time", "pages_scanned",
    "pages_written", "pages_skipped_parent", "pages_zero", "bytes_plain", "bytes_stored",
)  # fmt: skip


_unsaid: list[OSError] = []


def say(text: str) -> None:
    """A line on standard output. Where nobody can be told the command goes on, and its end says so (`unsaid`)."""
    _write(sys.stdout, text)


def tell(text: str) -> None:
    """A line on standard error."""
    _write(sys.stderr, text)


def _write(stream: TextIO, text: str) -> None:
    try:
        print(text, file=stream, flush=True)
    except OSError as error:
        if stream is sys.stdout:
            _unsaid.append(error)
        nothing = os.open(os.devnull, os.O_WRONLY)  # for what is in the buffer still, and all that comes
        os.dup2(nothing, stream.fileno())
        os.close(nothing)


def unsaid() -> OSError | None:
    """Why something could not be written to standard output, if so; told once."""
    found = _unsaid[0] if _unsaid else None
    _unsaid.clear()
    return found


def print_json(value: object) -> None:
    """One object on one line of standard output."""
    say(json.dumps(value))


def print_error(error: CkptError | Interrupted, as_json: bool) -> None:
    """An error on standard error: message and hint, or the JSON object."""
    if as_json:
        tell(json.dumps({"error": error.as_dict()}))
        return
    tell(f"error: {error.message}")
    for line in str(error.as_dict()["hint"] or "").splitlines():
        tell(f"hint: {line}")


def print_notes(notes: Sequence[str]) -> None:
    """What a command chose or could not keep, on standard error."""
    for note in notes:
        tell(f"note: {note}")


def image_dict(header: ImageHeader, statistics: Statistics, size: int, path: object) -> dict[str, Any]:
    """The stable names of the issue's contract, and where the image is."""
    return {
        "round": header.round,
        "kind": header.kind,
        "image_id": header.image_id.hex(),
        "parent": header.parent.hex() if header.parent is not None else None,
        "tracker": header.tracker,
        "full_reason": why_full(header, statistics),
        **{name: getattr(statistics, name) for name in STATISTICS},
        "pid": header.root_pid,
        "path": str(path),
        "size": size,
    }


def why_full(header: ImageHeader, statistics: Statistics) -> str | None:
    """Why a round took every page: it has no parent, or of these tasks tracking knew nothing."""
    return header.full_reason or "; ".join(statistics.lost) or None


def info_dict(info: ImageInfo) -> dict[str, Any]:
    return image_dict(info.header, info.statistics, info.size, info.path)


def size_text(size: int) -> str:
    """Bytes with a unit, three digits."""
    value = float(size)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024 or unit == "GiB":
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    raise AssertionError


def time_text(microseconds: int) -> str:
    """Microseconds with a unit."""
    if microseconds < 1000:
        return f"{microseconds} µs"
    if microseconds < 1_000_000:
        return f"{microseconds / 1000:.1f} ms"
    return f"{microseconds / 1e6:.2f} s"


def round_line(info: ImageInfo) -> str:
    """One round in one line."""
    s = info.statistics
    why = why_full(info.header, s)
    full = f", full: {why}" if why else ""
    how = f" ({s.snapshot})" if s.snapshot else ""
    return (
        f"round {info.header.round}: {info.header.kind} by {info.header.tracker}, {s.pages_written} pages written, "
        f"{s.pages_skipped_parent} as in the parent, {s.pages_zero} zero; {size_text(info.size)}; "
        f"frozen {time_text(s.frozen_time)}{how}{full}"
    )


def chain_table(infos: Sequence[ImageInfo], title: str) -> Any:
    """The rounds of a chain as a rich table."""
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for name in ("round", "kind", "time", "tracker"):
        table.add_column(name, no_wrap=True)
    for name in ("data", "parent", "zero", "stored", "plain", "frozen"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("cut", no_wrap=True)
    table.add_column("full because", overflow="fold")
    for info in infos:
        table.add_row(*_cells(info))
    return table


def _cells(info: ImageInfo) -> list[str]:
    import time

    h, s = info.header, info.statistics
    when = time.strftime("%H:%M:%S", time.localtime(h.created))
    return [
        str(h.round), h.kind, when, h.tracker, str(s.pages_written), str(s.pages_skipped_parent), str(s.pages_zero),
        size_text(s.bytes_stored), size_text(s.bytes_plain), time_text(s.frozen_time), s.snapshot or "",
        why_full(h, s) or "",
    ]  # fmt: skip


def say_tables(tables: Sequence[Any]) -> None:
    """Rich tables on standard output: as wide as the terminal; a file or a pipe has no margin."""
    from rich.console import Console

    shown = Console().is_terminal
    text = io.TextIOWrapper(io.BytesIO(), encoding=sys.stdout.encoding, errors=sys.stdout.errors)
    console = Console(file=text, force_terminal=shown, width=None if shown else 140)
    for table in tables:
        console.print(table)
    text.seek(0)
    say(text.read().rstrip("\n"))


@contextmanager
def progress_bar(mode: str, words: str) -> Iterator[Progress | None]:
    """Progress on standard error: a bar on a terminal, JSON lines with mode "json", nothing otherwise."""
    if mode not in ("auto", "json", "none"):
        raise UsageError(f"--progress {mode} is unknown", hint="auto, json or none")
    if mode == "json":
        yield json_line
        return
    if mode == "none" or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:3.0f}%"))
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(words, total=None)

        def advance(phase: str, done: int, total: int) -> None:
            bar.update(task, description=f"{words}: {phase}", completed=done, total=total)
            if phase == "restore" and done >= total:
                bar.stop()  # the tree is about to run, and the terminal may be its own

        yield advance


def json_line(phase: str, done: int, total: int) -> None:
    """Progress for machines: one object on a line of standard error."""
    tell(json.dumps({"progress": {"phase": phase, "done": done, "total": total}}))
