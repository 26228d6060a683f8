"""Small images and chains for the tests of the image side."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ckpt.chain import Chain, Round
from ckpt.chain.layers import View
from ckpt.image.reader import ImageReader
from ckpt.image.sinks import MemorySink
from ckpt.image.sources import BytesSource
from ckpt.image.writer import ImageWriter
from ckpt.pages.hashes import seed_of
from ckpt.records.files import FileRecord
from ckpt.records.image import ImageHeader, Statistics
from ckpt.records.mm import MmRecord, ShmRecord, Vma
from ckpt.records.runs import DATA, GUARD, PARENT, U8, U64, ZERO, PageRuns
from ckpt.records.tree import TreeRecord

TASK = {"pid": 41, "start_time": 4242, "boot_id": "5e11c7a0-boot", "tracker": "soft-dirty"}
CHAIN_ID = bytes(range(16))


def image_header(number: int = 1, parent: bytes | None = None, kind: str = "dump") -> ImageHeader:
    """A header that is the same in every run."""
    return ImageHeader(
        image_id=bytes([number]) * 16,
        chain_id=CHAIN_ID,
        kind=kind,
        round=number,
        parent=parent,
        root_pid=41,
        root_start_time=4242,
        boot_id="5e11c7a0-boot",
        tracker="soft-dirty",
        full_reason=None if parent else "first round",
        created=1.5e9,
        page_size=4096,
        arch="x86_64",
        kernel_release="6.1.0",
        ckpt_version="0.1.0",
    )


def records() -> list[object]:
    """A few records of different shape."""
    vma = Vma(0x10000, 0x30000, 3, False, 0, "[heap]", vm_flags=("rd", "wr"))
    payload = ShmRecord("shm:1:2", 8192, "memfd", "buffer", seals=1)
    return [
        TreeRecord(41, (41, 42), monotonic_ns=5),
        MmRecord(41, "mm:41", (vma,), brk=0x30000, auxv=b"\x01\x02", exe="/bin/\udcffodd", vdso_hash=b"h"),
        FileRecord(1, "memfd", 2, 17, payload),
        payload,
    ]


def page(fill: int) -> U8:
    """A page that compresses but differs for each `fill`."""
    made = np.full(4096, fill & 0xFF, np.uint8)
    made[:8] = np.frombuffer(int(fill).to_bytes(8, "little"), np.uint8)
    made[100] = 1
    return made


def pages(*fills: int) -> U8:
    return np.stack([page(fill) for fill in fills])


def numbers(*values: int) -> U64:
    return np.array(values, np.uint64)


def small_image(hash_seed: int | None = seed_of(CHAIN_ID), noisy: bool = True) -> bytes:
    """A full image of two spaces: data, a zero page, a guard page, a page that could not be read.

    Without noise it is half as large.
    """
    sink = MemorySink()
    writer = ImageWriter(sink, image_header(), hash_seed=hash_seed)
    for item in records():
        writer.add(item)
    runs = PageRuns.from_pages(
        numbers(16, 17, 18, 19, 20, 22, 40), np.array([DATA, DATA, DATA, ZERO, DATA, GUARD, DATA], np.uint8)
    )
    space = writer.space("mm:41", runs)
    space.put(numbers(16, 17, 18), pages(1, 2, 3).reshape(-1).data)
    noise = np.random.default_rng(3).integers(0, 256, 4096, dtype=np.uint8)
    space.put(numbers(20), (noise if noisy else page(5)).data)
    space.drop(numbers(40))
    space.close()
    shared = writer.space("shm:1:2", PageRuns.from_pages(numbers(0, 1), DATA))
    shared.put(numbers(0, 1), np.stack([np.zeros(4096, np.uint8), page(9)]).reshape(-1).data)
    shared.close()
    writer.finish(Statistics(frozen_time=1200))
    return bytes(sink.data)


def read_everything(data: bytes) -> View:
    """Open an image in memory and read all that can be read."""
    reader = ImageReader(BytesSource(data))
    view = View([reader])
    reader.records()
    reader.hashes()
    for key in view.spaces():
        runs = view.runs(key).of(DATA)
        if runs.total:
            view.read_pages(key, runs.pages())
    return view


def begin(chain: Chain, full_reason: str | None = None, kind: str = "pre-dump", **options: object) -> Round:
    """Begin a round of the test task."""
    return chain.begin(
        kind=kind,
        root_pid=41,
        root_start_time=4242,
        boot_id="5e11c7a0-boot",
        tracker="soft-dirty",
        kernel_release="6.1.0",
        full_reason=full_reason,
        **options,  # type: ignore[arg-type]
    )


class Memory:
    """What a task's memory should be after each round: page number to bytes, with the kinds to hand in."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.content: dict[int, U8] = {}
        self.guards: set[int] = set()

    def mutate(self, count: int, span: int = 400) -> set[int]:
        """Write, clear, map and unmap some pages; the pages that are not as they were."""
        touched: set[int] = set()
        for number in self.rng.integers(0, span, count).tolist():
            choice = self.rng.random()
            old = self.content.get(number)
            if choice < 0.15:
                self.content.pop(number, None)
                self.guards.discard(number)
            elif choice < 0.2:
                self.content.pop(number, None)
                self.guards.add(number)
            elif choice < 0.3:
                self.content[number] = np.zeros(4096, np.uint8)
            elif choice < 0.7 and old is not None:
                new = old.copy()
                new[int(self.rng.integers(0, 4096))] ^= 0x5A
                self.content[number] = new
            elif choice < 0.75 and old is not None:
                pass  # written with the same bytes
            else:
                self.content[number] = self.rng.integers(0, 1 << int(self.rng.integers(1, 9)), 4096, dtype=np.uint8)
            if number in self.content:
                self.guards.discard(number)
            touched.add(number)
        return touched

    def write(self, round_: Round, key: str, dirty: set[int] | None, base: str = "") -> None:
        """Hand the memory to a round; `dirty` None is a full one."""
        every = sorted(set(self.content) | self.guards)
        kinds = [GUARD if n in self.guards else DATA if dirty is None or n in dirty else PARENT for n in every]
        space = round_.space(key, PageRuns.from_pages(numbers(*every), np.array(kinds, np.uint8)), base)
        wanted = [n for n, kind in zip(every, kinds, strict=True) if kind == DATA]
        for at in range(0, len(wanted), 50):
            some = wanted[at : at + 50]
            space.put(numbers(*some), np.stack([self.content[n] for n in some]).reshape(-1).data)
        space.close()

    def snapshot(self) -> dict[int, bytes]:
        return {n: content.tobytes() for n, content in self.content.items()}


def memory_of(view: View, key: str) -> dict[int, bytes]:
    """Every DATA and ZERO page of a view, by number."""
    runs = view.runs(key)
    found = {n: bytes(4096) for n in runs.of(ZERO).pages().tolist()}
    for some, data in view.read(key):
        for at, number in enumerate(some.tolist()):
            found[number] = bytes(data[at * 4096 : (at + 1) * 4096])
    return found


def grow_chain(directory: Path, rounds: int, seed: int = 1, **options: object) -> list[dict[int, bytes]]:
    """A chain of some rounds over one space "mm:41"; the memory as it was at each."""
    memory = Memory(seed)
    history: list[dict[int, bytes]] = []
    with Chain.open(directory, create=True) as chain:
        for number in range(rounds):
            dirty = memory.mutate(600 if number == 0 else 80)
            chain.journal_intent(**TASK)  # type: ignore[arg-type]
            with begin(chain, "first round" if number == 0 else None, **options) as round_:
                for item in records():
                    round_.add(item)
                memory.write(round_, "mm:41", None if number == 0 else dirty)
                round_.track({"41:4242": b"state"})
                round_.commit(Statistics())
            history.append(memory.snapshot())
    return history
