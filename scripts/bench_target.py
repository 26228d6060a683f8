"""A process with a known amount of memory that dirties a known amount of it: bench_target.py DIR MIB HOT_MIB [--arm].

Every SIGUSR1 writes one byte to `HOT_MIB` worth of pages, spread over the whole, and counts up in DIR/cycle.
With --arm it registers the memory for asynchronous write protection itself, so that a bare scan can be timed.
"""

from __future__ import annotations

import mmap
import os
import signal
import sys
from pathlib import Path
from types import FrameType

import numpy as np

PAGE = 4096


def main() -> None:
    place, size, hot = Path(sys.argv[1]), int(sys.argv[2]) << 20, int(float(sys.argv[3]) * (1 << 20))
    area = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    area.madvise(mmap.MADV_NOHUGEPAGE)
    memory = np.frombuffer(area, np.uint8)
    # Text-like: half of each page is noise of few symbols, the rest repeats; compresses about four times.
    dice = np.random.default_rng(1)
    block = dice.integers(32, 96, 1 << 20, np.uint8)
    block.reshape(-1, PAGE)[:, PAGE // 3 :] = 65
    for at in range(0, size, 1 << 20):
        memory[at : at + (1 << 20)] = block
        memory[at : at + 8] = np.frombuffer(at.to_bytes(8, "little"), np.uint8)
    step = max(size // PAGE * PAGE // max(hot, PAGE), 1) * PAGE
    cycle = 0

    def dirty(number: int, frame: FrameType | None) -> None:
        nonlocal cycle
        cycle += 1
        memory[::step][: hot // PAGE] = cycle & 255
        said = place / "cycle.new"
        said.write_text(str(cycle))
        said.rename(place / "cycle")

    signal.signal(signal.SIGUSR1, dirty)
    if "--arm" in sys.argv:
        from ckpt.kernel import userfault

        descriptor = userfault.open_own()
        userfault.enable(descriptor)
        userfault.register(descriptor, memory.ctypes.data, memory.ctypes.data + size)
    (place / "where.new").write_text(str(memory.ctypes.data))
    (place / "where.new").rename(place / "where")
    while True:
        signal.pause()


if __name__ == "__main__":
    os.setsid()
    main()
