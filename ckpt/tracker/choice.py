"""Which tracker to use: by name, or the best that works here, always with the reason."""

from __future__ import annotations

from ckpt.errors import Unsupported, UsageError
from ckpt.kernel import features, ksm
from ckpt.kernel.entries import Room
from ckpt.kernel.features import Feature
from ckpt.kernel.keeper import Mark
from ckpt.tracker.content_hash import ContentHash
from ckpt.tracker.soft_dirty import SoftDirty
from ckpt.tracker.write_protect import HeldDescriptors, WriteProtect

Tracker = SoftDirty | WriteProtect | ContentHash

# In the order of preference; each with the features that it cannot do without.
NEEDS: dict[str, tuple[str, ...]] = {
    SoftDirty.name: ("soft-dirty", "page-frames"),
    WriteProtect.name: ("pagemap-scan", "uffd-wp-async", "pidfd_getfd"),
    ContentHash.name: (),
}
NAMES = ("auto", *NEEDS)


def missing(name: str) -> list[Feature]:
    """What the tracker would need and this kernel or user does not have."""
    return [feature for feature in map(features.probe, NEEDS[name]) if not feature.available]


def choose(name: str = "auto") -> tuple[str, str]:
    """(tracker, why). Unsupported when the one asked for cannot work here."""
    if name not in NAMES:
        raise UsageError(f"there is no tracker {name!r}", hint=f"one of {', '.join(NAMES)}")
    if name != "auto":
        if lacks := missing(name):
            raise Unsupported(
                f"the tracker {name} cannot work here: " + "; ".join(f.evidence for f in lacks),
                hint="; ".join(f.remedy for f in lacks) + "; or use --tracker auto",
            )
        return name, "asked for"
    passed_over: list[str] = []
    for candidate in NEEDS:
        lacks = missing(candidate)
        if candidate == SoftDirty.name and not lacks and ksm.runs():
            passed_over.append(f"{candidate} does not: KSM is at work, which loses soft-dirty bits")
        elif not lacks:
            why = "; ".join([*passed_over, f"{candidate} works"])
            return candidate, why
        else:
            passed_over.append(f"{candidate} does not: {lacks[0].evidence}")
    raise AssertionError("content-hash needs nothing")


def make(
    name: str,
    held: HeldDescriptors | None = None,
    room: Room | None = None,
    mark: Mark | None = None,
    fresh: Mark | None = None,
    scans: str | None = None,
) -> Tracker:
    """A tracker for one address space and round.

    `held` keeps descriptors in this process between rounds, `room` is where what it reads lies, `mark` that of the
    keeper of the last round, `fresh` that of a new witness for soft-dirty where there is none, `scans` what KSM had
    looked at before the freeze.
    """
    if name == SoftDirty.name:
        return SoftDirty(room, mark, fresh, scans)
    if name == WriteProtect.name:
        return WriteProtect(held, mark)
    if name == ContentHash.name:
        return ContentHash()
    raise UsageError(f"there is no tracker {name!r}", hint=f"one of {', '.join(NEEDS)}")
