"""The content-hash tracker: arms nothing; every populated page is copied and compared to the parent's."""

from __future__ import annotations

from ckpt.records.runs import U64
from ckpt.records.seams import Conclusion, MmAccess, Seen
from ckpt.tracker.state import pack
from ckpt.tracker.write_protect import release


class ContentHash:
    """Vouches for nothing. `by_content` tells the engine to keep the parent, and to let the bytes decide."""

    name = "content-hash"
    by_content = True
    seen: Seen | None = None

    def collect(self, mm: MmAccess, state: bytes | None) -> tuple[U64 | None, str | None, bytes]:
        """See DirtyTracker; the reason is None too, for nothing went wrong."""
        release(state)  # of a round that another tracker did
        return None, None, pack(self.name, {"mm_key": mm.mm_key})

    def look(self, mm: MmAccess, state: bytes | None, *, arm: bool = True) -> Conclusion:
        """See DirtyTracker."""
        found = self.collect(mm, state if arm else None)
        return lambda: found

    def settle(self) -> None:
        """Nothing is left to do."""

    def discard(self, reason: str) -> None:
        """Nothing was armed."""
