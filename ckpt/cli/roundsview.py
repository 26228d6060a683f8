"""How `ckpt precopy` shows its rounds: a table that grows on a terminal, a line for each otherwise, or JSON lines."""

from __future__ import annotations

import json
import sys
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from ckpt.cli import output

if TYPE_CHECKING:
    from rich.live import Live

    from ckpt.chain.directory import ImageInfo


class RoundsView:
    """Told of each step; `shown` is the context in which it may draw.

    With mode "json" every line of standard error is an object: {"progress": …} while a round is copied, {"round": …}
    when it is done, {"stopped": why} when no further pre-dump is made. `quiet` leaves standard output alone.
    """

    def __init__(self, mode: str, title: str, *, quiet: bool) -> None:
        self._mode, self._title, self._quiet = mode, title, quiet
        self._made: list[ImageInfo] = []
        self._now = ""
        self._live: Live | None = None

    def shown(self) -> AbstractContextManager[Any]:
        if self._quiet or self._mode != "auto" or not sys.stdout.isatty():
            return nullcontext()
        from rich.live import Live

        self._live = Live(self._table(), refresh_per_second=8)
        return self._live

    def _table(self) -> Any:
        table = output.chain_table(self._made, self._title)
        table.caption, table.caption_justify = self._now, "left"
        return table

    def _draw(self) -> None:
        if self._live is not None:
            self._live.update(self._table())

    def progress(self, phase: str, done: int, total: int) -> None:
        """Progress of the round under way, in pages."""
        if self._mode == "json":
            output.json_line(phase, done, total)
        self._now = f"round {len(self._made) + 1}: {phase}, {done * 100 // max(total, 1)} % of {total} pages"
        self._draw()

    def round(self, info: ImageInfo) -> None:
        """A round is done."""
        self._made.append(info)
        self._now = ""
        if self._mode == "json":
            output.tell(json.dumps({"round": output.info_dict(info)}))
        elif self._live is None and not self._quiet:
            output.say(output.round_line(info))
        self._draw()

    def stopped(self, why: str) -> None:
        """The next round is the dump."""
        self._now = f"now the dump: {why}"
        if self._mode == "json":
            output.tell(json.dumps({"stopped": why}))
        elif self._live is None and not self._quiet:
            output.say(self._now)
        self._draw()
