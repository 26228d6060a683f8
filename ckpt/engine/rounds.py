"""The verbs that make images: pre_dump, dump and precopy."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ckpt.chain.directory import Chain, ImageInfo
from ckpt.engine.namespaces import where_it_lives
from ckpt.engine.progress import Progress
from ckpt.engine.round import Request
from ckpt.engine.round import run_round as run_round_here
from ckpt.errors import ChainError, UsageError
from ckpt.kernel import ownership
from ckpt.records.runs import PAGE_SIZE
from ckpt.state.context import DumpOptions


def pre_dump(
    pid: int,
    directory: str | Path,
    *,
    tracker: str = "auto",
    shadow: str = "auto",
    timeout: float = 5.0,
    progress: Progress | None = None,
) -> ImageInfo:
    """One round: the pages written since the last one, as an image on top of the chain; the task goes on.

    `shadow` says where pages are stored as differences from the parent's: where looking those up pays (auto), always
    (image), or never (off). `timeout` in seconds bounds the freezing. Raises a CkptError with task and chain as they
    were.
    """
    request = Request(pid, Path(directory), "pre-dump", tracker, timeout=timeout, progress=progress, shadow=shadow)
    return run_round(request)


def dump(
    pid: int,
    directory: str | Path,
    *,
    tracker: str = "auto",
    shadow: str = "auto",
    leave: str = "killed",
    snapshot: str = "auto",
    options: DumpOptions | None = None,
    timeout: float = 5.0,
    progress: Progress | None = None,
) -> ImageInfo:
    """The final dump: everything of the tree, its pages as a delta where there is a chain.

    `leave` says what becomes of the tree: killed, running or stopped. It is killed only when the image is durable.
    `snapshot` says how the cut is made when the tree goes on: from a copy-on-write fork of its memory (fork), copied
    while it stands still (frozen), or whichever is quicker and possible (auto).
    """
    allowed = options or DumpOptions()
    request = Request(pid, Path(directory), "dump", tracker, leave, snapshot, timeout, allowed, progress)
    return run_round(replace(request, shadow=shadow))


def precopy(
    pid: int,
    directory: str | Path,
    *,
    tracker: str = "auto",
    shadow: str = "auto",
    max_rounds: int = 8,
    downtime_limit: float = 0.3,
    bandwidth: float | None = None,
    leave: str = "killed",
    snapshot: str = "auto",
    options: DumpOptions | None = None,
    timeout: float = 5.0,
    on_round: Callable[[ImageInfo], None] | None = None,
    on_stop: Callable[[str], None] | None = None,
    progress: Progress | None = None,
) -> list[ImageInfo]:
    """Pre-dumps until a stop policy is met, then the dump; gives every image made.

    Stops when the pages of a round would take no longer than `downtime_limit` seconds to copy at `bandwidth` bytes a
    second (measured when None), when a round writes no less than the one before, or after `max_rounds` pre-dumps;
    `on_stop` is told which. An exception in the middle leaves the chain as the last whole round made it.
    """
    if max_rounds < 1:
        raise UsageError("--max-rounds must be 1 or more")
    if not downtime_limit > 0:
        raise UsageError("--downtime-limit must be more than 0")
    if bandwidth is not None and not bandwidth > 0:
        raise UsageError("--bandwidth must be more than 0")
    made: list[ImageInfo] = []
    while True:
        made.append(pre_dump(pid, directory, tracker=tracker, shadow=shadow, timeout=timeout, progress=progress))
        if on_round is not None:
            on_round(made[-1])
        if why := _enough(made, max_rounds, downtime_limit, bandwidth):
            break
    if on_stop is not None:
        on_stop(why)
    made.append(
        dump(
            pid, directory, tracker=tracker, shadow=shadow, leave=leave, snapshot=snapshot, options=options,
            timeout=timeout, progress=progress,
        )
    )  # fmt: skip
    if on_round is not None:
        on_round(made[-1])
    return made


def run_round(request: Request) -> ImageInfo:
    """A round by a process in the task's own pid namespace, so that the image holds the pids that the task knows."""
    ground = _ground(request.directory)
    request = replace(request, owner=ownership.foreign_owner(request.directory))

    def work(pid: int, progress: Progress | None) -> ImageInfo:
        if _ground(request.directory) != ground:
            raise ChainError(
                f"{request.directory} leads elsewhere in the mount namespace of task {request.pid}",
                hint="go there, and give a path that does not begin at the root (-D .)",
            )
        return run_round_here(replace(request, pid=pid, progress=progress))

    return where_it_lives(request.pid, work, request.progress)


def _ground(directory: Path) -> tuple[int, int]:
    """Which directory it is, or the nearest above it that is there."""
    for path in (directory, *directory.parents):
        try:
            found = os.stat(path)
        except OSError:
            continue
        return found.st_dev, found.st_ino
    return 0, 0


def _enough(made: list[ImageInfo], max_rounds: int, downtime_limit: float, bandwidth: float | None) -> str | None:
    """Why no further pre-dump is to be made: the pages that a round wrote tell how many the next one will."""
    last = made[-1].statistics
    size = last.pages_written * PAGE_SIZE
    rate = bandwidth
    if rate is None:
        seconds = max(last.memdump_time, 1) / 1e6
        rate = max(size / seconds, 1.0) if size >= 1 << 20 else 1e9
    if size / rate <= downtime_limit:
        return f"{size / 1e6:.1f} MB take {size / rate * 1000:.1f} ms, the limit is {downtime_limit * 1000:g} ms"
    if len(made) > 1 and last.pages_written >= made[-2].statistics.pages_written:
        return "the rounds no longer get smaller"
    if len(made) >= max_rounds:
        return f"there have been {max_rounds} pre-dumps"
    return None


def show(directory: str | Path) -> list[ImageInfo]:
    """Every image of a chain's directory, oldest first, or of a single image file."""
    path = Path(directory)
    if os.path.isfile(path):
        from ckpt.chain.layers import view

        with view(path) as image:
            return [ImageInfo(path, path.stat().st_size, image.header, image.statistics)]
    with Chain.open(path) as chain:
        return list(chain.rounds())
