"""The oracle's vocabulary: what a target, or somebody from outside, can do to memory; and a seeded choice of it.

A step names its process by place (0 the root, then the living children) and memory by page of the stage, so that it
means the same in every run and any step may be left out.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

STAGE = 0x0A0000000000
"""Where areas come and go; nothing else is mapped near it."""
PAGES = 3072

NONE, READ, WRITE, EXEC = 0, 1, 2, 4
SHARED, PRIVATE, DROPPABLE, FIXED, ANON, GROWSDOWN, HUGETLB, NOREPLACE = 1, 2, 8, 0x10, 0x20, 0x100, 0x40000, 0x100000
MAYMOVE, MREMAP_FIXED, DONTUNMAP = 1, 2, 4
ADVICE = {
    "NORMAL": 0,
    "RANDOM": 1,
    "SEQUENTIAL": 2,
    "WILLNEED": 3,
    "DONTNEED": 4,
    "FREE": 8,
    "REMOVE": 9,
    "DONTFORK": 10,
    "DOFORK": 11,
    "MERGEABLE": 12,
    "UNMERGEABLE": 13,
    "HUGEPAGE": 14,
    "NOHUGEPAGE": 15,
    "DONTDUMP": 16,
    "DODUMP": 17,
    "WIPEONFORK": 18,
    "KEEPONFORK": 19,
    "COLD": 20,
    "PAGEOUT": 21,
    "POPULATE_READ": 22,
    "POPULATE_WRITE": 23,
    "DONTNEED_LOCKED": 24,
    "COLLAPSE": 25,
    "GUARD_INSTALL": 102,
    "GUARD_REMOVE": 103,
}
_OFTEN = ("DONTNEED", "DONTNEED", "FREE", "GUARD_INSTALL", "GUARD_REMOVE", "COLLAPSE", "HUGEPAGE")
SLOTS = 4  # memfds, and files


@dataclass(frozen=True)
class Step:
    """One step: `who` is the place of a process, 0 the root."""

    op: str
    who: int = 0
    args: tuple[int | str, ...] = ()

    def __str__(self) -> str:
        return f"Step({self.op!r}, {self.who}, {self.args!r})"


Args = tuple[int | str, ...]


def _place(rng: random.Random) -> tuple[int, int]:
    """(page, number of pages): mostly small areas that lie close together."""
    n = rng.choice([1, 1, 1, 2, 3, 5, 8, 24, 64])
    if rng.random() < 0.08:
        n = rng.choice([512, 700])
    if n >= 512 and rng.random() < 0.7:
        return rng.randrange(PAGES // 512 - 1) * 512, n
    return rng.randrange(PAGES - n), n


def _prot(rng: random.Random) -> int:
    return rng.choice([READ | WRITE] * 6 + [READ, NONE, READ | WRITE | EXEC, READ | EXEC])


def _area(rng: random.Random) -> Args:
    return _place(rng)


def _fill(rng: random.Random) -> Args:
    return (*_place(rng), rng.randrange(1, 1 << 30))


def _bytes(rng: random.Random) -> Args:
    return (*_place(rng), rng.randrange(1, 256))


def _map(rng: random.Random) -> Args:
    page, n = _place(rng)
    flags = rng.choice([FIXED, FIXED, FIXED, NOREPLACE, NOREPLACE, 0, FIXED | GROWSDOWN])
    return page, n, _prot(rng), PRIVATE | ANON | flags


def _shared(rng: random.Random) -> Args:
    page, n = _place(rng)
    return page, n, READ | WRITE, SHARED | ANON | rng.choice([FIXED, NOREPLACE])


def _huge(rng: random.Random) -> Args:
    return rng.randrange(PAGES // 512 - 1) * 512, 512, READ | WRITE, PRIVATE | ANON | FIXED | HUGETLB


def _object(rng: random.Random) -> Args:
    """A mapping of the memfd or file in a slot."""
    page, n = _place(rng)
    return rng.randrange(SLOTS), page, min(n, 64), rng.choice([0, 0, 1, 5]), rng.choice([SHARED, PRIVATE]), _prot(rng)


def _wide(rng: random.Random) -> tuple[int, int]:
    """(page, number of pages): with every second page apart, more regions than PAGEMAP_SCAN keeps at a time."""
    n = rng.choice([1100, 1600, 2500])
    return rng.randrange(PAGES - n), n


def _map_wide(rng: random.Random) -> Args:
    return (*_wide(rng), READ | WRITE, PRIVATE | ANON | FIXED)


def _wide_object(rng: random.Random) -> Args:
    return rng.randrange(SLOTS), *_wide(rng), rng.choice([0, 3]), PRIVATE, READ | WRITE


def _scatter(rng: random.Random) -> Args:
    return (*_wide(rng), rng.choice([2, 2, 3]), rng.randrange(1, 240))


def _advise_each(rng: random.Random) -> Args:
    return (
        *_wide(rng),
        rng.choice([2, 3, 5]),
        rng.choice(["DONTNEED", "FREE", "GUARD_INSTALL", "GUARD_REMOVE", "COLD"]),
    )


def _move(rng: random.Random) -> Args:
    page, n = _place(rng)
    to = rng.randrange(PAGES - n) if n < 512 else rng.randrange(PAGES // 512 - 1) * 512
    return page, n, to, rng.choice([n, n, n, n + 4, max(1, n // 2)])


def _written(rng: random.Random) -> Args:
    return rng.randrange(SLOTS), rng.randrange(40 * 4096), rng.choice([1, 100, 4096, 8000]), rng.randrange(256)


def _protect(rng: random.Random) -> Args:
    return (*_place(rng), _prot(rng))


def _resize(rng: random.Random) -> Args:
    page, n = _place(rng)
    return page, n, rng.choice([1, n // 2 or 1, n + 1, n + 16]), rng.choice([0, MAYMOVE])


def _advise(rng: random.Random) -> Args:
    return (*_place(rng), rng.choice([*_OFTEN, *ADVICE]))


def _slot_place(rng: random.Random) -> Args:
    return rng.randrange(SLOTS), rng.randrange(30), rng.randrange(1, 12)


def _droppable(rng: random.Random) -> Args:
    page, n = _place(rng)
    return page, min(n, 24), READ | WRITE, DROPPABLE | ANON | FIXED


def _small(rng: random.Random) -> tuple[int, int]:
    page, n = _place(rng)
    return page, min(n, 24)


def _kind(rng: random.Random) -> Args:
    return (*_small(rng), rng.choice([SHARED, PRIVATE]), _prot(rng))


def _outside(rng: random.Random) -> Args:
    return (*_place(rng), rng.choice([ADVICE[name] for name in ("COLD", "PAGEOUT", "WILLNEED", "COLLAPSE")]))


# op: (weight, what its arguments are)
OPS: dict[str, tuple[int, Callable[[random.Random], Args]]] = {
    "map": (10, _map),
    "map shared": (2, _shared),
    "map huge": (1, _huge),
    "map wide": (1, _map_wide),
    "unmap": (5, _area),
    "protect": (7, _protect),
    "move": (6, _move),
    "move, keep": (2, lambda rng: (*_place(rng), rng.randrange(PAGES - 512))),
    "resize": (3, _resize),
    "advise": (14, _advise),
    "lock": (2, _area),
    "unlock": (1, _area),
    "brk": (2, lambda rng: (rng.randrange(-8, 12), rng.randrange(1, 256))),
    "deepen": (1, lambda rng: (rng.randrange(1, 120),)),
    "fill": (12, _fill),
    "write": (14, _bytes),
    "scatter": (4, _scatter),
    "advise each": (1, _advise_each),
    "same bytes": (3, _area),
    "read": (5, _area),
    "fork and write": (3, _bytes),
    "vfork": (1, _bytes),
    "child": (1, lambda rng: ()),
    "exec": (1, lambda rng: ()),
    "leave": (1, lambda rng: ()),
    "spin": (2, lambda rng: (rng.randrange(3), *_place(rng))),
    "rest": (2, lambda rng: ()),
    "memfd": (1, lambda rng: (rng.randrange(SLOTS), rng.randrange(1, 40))),
    "file": (
        2,
        lambda rng: (rng.randrange(SLOTS), rng.choice([*range(1, 40, 2), *[2600] * 4]), int(rng.random() < 0.3)),
    ),
    "map memfd": (3, _object),
    "map file": (3, _object),
    "map wide file": (1, _wide_object),
    "write memfd": (3, _written),
    "write file": (2, _written),
    "truncate memfd": (1, lambda rng: (rng.randrange(SLOTS), rng.randrange(1, 40))),
    "truncate file": (1, lambda rng: (rng.randrange(SLOTS), rng.randrange(1, 40))),
    "punch memfd": (2, _slot_place),
    "punch file": (1, _slot_place),
    "map droppable": (1, _droppable),
    "map zero device": (1, _kind),
    "map posix": (1, lambda rng: (*_kind(rng), rng.randrange(2))),
    "attach": (1, _small),
    "detach": (1, lambda rng: (rng.randrange(PAGES),)),
    "duplicate": (2, lambda rng: (*_small(rng), rng.randrange(PAGES - 24))),
    "remap file pages": (1, lambda rng: (*_small(rng), rng.randrange(20))),
    "lock on fault": (1, _area),
    "lock all": (1, lambda rng: (rng.choice([2, 6, 3]),)),
    "unlock all": (1, lambda rng: ()),
    "seal": (1, lambda rng: (rng.randrange(PAGES - 2), rng.randrange(1, 3))),
    "seal memfd": (1, lambda rng: (rng.randrange(SLOTS), rng.choice([2, 4, 16]))),
    "read file into": (3, lambda rng: (rng.randrange(SLOTS), rng.randrange(10), *_small(rng))),
    "advise from outside": (2, _outside),
    "write from outside": (3, lambda rng: (*_place(rng), rng.randrange(256), rng.choice(["mem", "vm"]))),
}
_NAMES = list(OPS)
_WEIGHTS = [weight for weight, _ in OPS.values()]


def random_step(rng: random.Random) -> Step:
    """A step that touches memory."""
    op = rng.choices(_NAMES, _WEIGHTS)[0]
    return Step(op, rng.choice([0, 0, 0, 0, 1, 2]), OPS[op][1](rng))


def random_round(rng: random.Random, trackers: list[str]) -> Step:
    """A round by a fresh ckpt, or what else a user does with a chain."""
    kind = rng.choices(
        ["pre-dump", "leave-running", "merge", "chain", "cycle"],
        [10, 6, 1, 1, 1],
    )[0]
    return Step("round", 0, (kind, rng.choice(trackers), "cli" if rng.random() < 0.15 else "api"))


def steps(seed: int, count: int, trackers: list[str], every: int = 20) -> list[Step]:
    """`count` steps; a round comes after one in `every`, on average."""
    rng = random.Random(seed)
    found = [random_round(rng, trackers) if rng.random() < 1 / every else random_step(rng) for _ in range(count)]
    return [
        *found,
        Step("round", 0, ("leave-running", trackers[0], "api")),
        Step("round", 0, ("cycle", trackers[0], "api")),
    ]
