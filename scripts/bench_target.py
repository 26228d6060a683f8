"""A process with a known amount of memory that dirties a known amount of it: bench_target.py DIR MIB HOT_MIB [options].

Every SIGUSR1 writes one byte to `HOT_MIB` worth of pages, spread over the whole, and counts up in DIR/cycle.
Every SIGUSR2 forks a child that ends at once; the milliseconds that the call took are put into DIR/forked.
--arm          it registers the memory for asynchronous write protection itself, so that a bare scan can be timed
--scattered    the pages are chosen at random
--vmas N, --threads N, --tasks N, --sparse GIB: so many mappings, threads, children, addresses with a page in each GiB
"""

from __future__ import annotations

import argparse
import ctypes
import mmap
import os
import signal
import threading
import time
from pathlib import Path
from types import FrameType

import numpy as np

PAGE = 4096
MAP_NORESERVE = 0x4000


def filled(size: int) -> tuple[mmap.mmap, np.ndarray[tuple[int], np.dtype[np.uint8]]]:
    """Text-like memory: a third of each page is noise of few symbols, the rest repeats; compresses about four times."""
    area = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    area.madvise(mmap.MADV_NOHUGEPAGE)
    memory = np.frombuffer(area, np.uint8)
    block = np.random.default_rng(1).integers(32, 96, 1 << 20, np.uint8)
    block.reshape(-1, PAGE)[:, PAGE // 3 :] = 65
    for at in range(0, size, 1 << 20):
        memory[at : at + (1 << 20)] = block
        memory[at : at + 8] = np.frombuffer(at.to_bytes(8, "little"), np.uint8)
    return area, memory


def many_mappings(count: int) -> mmap.mmap:
    """`count` mappings of two pages, every second one read-only, a page of each written."""
    area = mmap.mmap(-1, max(count, 1) * 2 * PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    libc = ctypes.CDLL(None)
    start = ctypes.addressof(ctypes.c_char.from_buffer(area))
    for number in range(count):
        area[number * 2 * PAGE] = number % 255 + 1
        if number % 2:
            libc.mprotect(ctypes.c_void_p(start + number * 2 * PAGE), ctypes.c_size_t(2 * PAGE), 1)
    return area


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("place", type=Path)
    parser.add_argument("mib", type=int)
    parser.add_argument("hot", type=float)
    parser.add_argument("--arm", action="store_true")
    parser.add_argument("--scattered", action="store_true")
    for kind in ("nothing", "vmas", "threads", "tasks", "sparse"):
        parser.add_argument(f"--{kind}", type=int, default=0)
    options = parser.parse_args()
    place: Path = options.place
    size, hot = options.mib << 20, int(options.hot * (1 << 20))
    kept: list[object] = [many_mappings(options.vmas)]
    if options.sparse:
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE
        sparse = mmap.mmap(-1, options.sparse << 30, flags=flags)
        sparse.madvise(mmap.MADV_NOHUGEPAGE)
        for at in range(0, options.sparse << 30, 1 << 30):
            sparse[at] = 1
        kept.append(sparse)
    root = os.getpid()
    for _ in range(options.tasks):
        if not os.fork():
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: a benchmark that ends ends the root alone
            while os.getppid() == root:
                time.sleep(1000)
    threading.stack_size(64 << 10)
    for _ in range(options.threads):
        threading.Thread(target=threading.Event().wait, daemon=True).start()
    area, memory = filled(size)
    kept.append(area)
    step = max(size // PAGE * PAGE // max(hot, PAGE), 1) * PAGE
    dice = np.random.default_rng(2)
    cycle = 0

    def dirty(number: int, frame: FrameType | None) -> None:
        nonlocal cycle
        cycle += 1
        if options.scattered:
            memory.reshape(-1, PAGE)[dice.choice(size // PAGE, hot // PAGE, replace=False), 0] = cycle & 255
        else:
            memory[::step][: hot // PAGE] = cycle & 255
        said = place / "cycle.new"
        said.write_text(str(cycle))
        said.rename(place / "cycle")

    def fork(number: int, frame: FrameType | None) -> None:
        begin = time.perf_counter()
        child = os.fork()
        if not child:
            os._exit(0)
        took = time.perf_counter() - begin
        os.waitpid(child, 0)
        (place / "forked.new").write_text(str(took * 1000))
        (place / "forked.new").rename(place / "forked")

    signal.signal(signal.SIGUSR1, dirty)
    signal.signal(signal.SIGUSR2, fork)
    if options.arm:
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
