"""The measurements of scripts/bench. Numbers stand beside others of the same run and are compared with no other's."""

from __future__ import annotations

import argparse
import ctypes
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import zstandard
from bench_criu import bench_criu, bench_criu_inside
from bench_scale import bench_scale, bench_snapshot
from bench_tools import ENVIRONMENT, ROOT, Report, Target, ckpt, target, text

from ckpt.kernel import uapi_pagemap as up
from ckpt.kernel.pagemap import Pagemap

PTRACE_SEIZE, PTRACE_INTERRUPT, PTRACE_DETACH = 0x4206, 0x4207, 17
PEAK_MIB = 300
_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]


def ptrace(request: int, pid: int) -> None:
    if _libc.ptrace(request, pid, None, None) < 0:
        raise OSError(ctypes.get_errno(), "ptrace")


def bare(victim: Target) -> float:
    """Milliseconds of one seize and one PAGEMAP_SCAN that reads and re-arms: the least that a round can freeze for."""
    start = int(text(victim.place / "where"))
    spans = np.array([[start, start + victim.size]], np.uint64)
    with Pagemap(victim.pid) as pagemap:
        begin = time.perf_counter()
        ptrace(PTRACE_SEIZE, victim.pid)
        ptrace(PTRACE_INTERRUPT, victim.pid)
        os.waitpid(victim.pid, 0x40000000)
        flags = up.PM_SCAN_WP_MATCHING | up.PM_SCAN_CHECK_WPASYNC
        pagemap.scan(spans, mask=up.PAGE_IS_WRITTEN, returned=up.PAGE_IS_WRITTEN, flags=flags)
        ptrace(PTRACE_DETACH, victim.pid)
        return (time.perf_counter() - begin) * 1e3


def bench_pre_dump(report: Report, work: Path, mib: int, rounds: int) -> None:
    chain = work / "chain"
    with target(work / "a", mib, mib / 100) as one, target(work / "b", mib, mib / 100, "--arm") as other:
        bare(other)
        runs, least = [ckpt("pre-dump", "-t", one.pid, "-D", chain, "--tracker", "write-protect")], []
        for _ in range(rounds):
            one.dirty()
            other.dirty()
            least.append(bare(other))
            runs.append(ckpt("pre-dump", "-t", one.pid, "-D", chain, "--tracker", "write-protect"))
        idle = ckpt("pre-dump", "-t", one.pid, "-D", chain, "--tracker", "write-protect")
    later = runs[1:]
    mine, theirs = statistics.median(run.frozen_ms for run in later), statistics.median(least)
    report.title(f"pre-dump of {mib} MiB, 1 % dirty a cycle, {rounds} rounds by write-protect:")
    report.add("pre-dump: frozen_time, first round", runs[0].frozen_ms, "ms")
    report.add("pre-dump: frozen_time, median", mine, "ms")
    report.add("pre-dump: bare seize and PAGEMAP_SCAN", theirs, "ms")
    report.add("pre-dump: frozen_time to bare", mine / theirs, "times", most=3)
    report.add("pre-dump: pages written a round", statistics.median(run.found["pages_written"] for run in later))
    report.add("pre-dump: image of an idle round", idle.found["size"] / 1024, "KiB", most=64)
    report.add("pre-dump: ckpt's peak memory", max(run.peak_mib for run in runs), "MiB", most=PEAK_MIB)


def zstd_rate(work: Path) -> float:
    """GB/s of zstd at level 1 on one core over the target's kind of memory: what the dump is compared with."""
    with target(work / "sample", 16, 1) as one:
        start = int(text(one.place / "where"))
        with Path(f"/proc/{one.pid}/mem").open("rb") as memory:
            memory.seek(start)
            data = memory.read(one.size)
    compressor = zstandard.ZstdCompressor(level=1)
    best = 1e9
    for _ in range(3):
        begin = time.perf_counter()
        for at in range(0, len(data), 1 << 18):
            compressor.compress(data[at : at + (1 << 18)])
        best = min(best, time.perf_counter() - begin)
    return len(data) / best / 1e9


def bench_full(report: Report, work: Path, mib: int, rounds: int) -> None:
    chain = work / "chain"
    core = zstd_rate(work)
    with target(work / "a", mib, 1) as one:
        first = ckpt("pre-dump", "-t", one.pid, "-D", work / "before")
        done = {"dump": ckpt("dump", "-t", one.pid, "-D", chain)}
        one.process.wait()
        done["restore"] = ckpt("restore", "-D", chain, "--detach")
        os.kill(done["restore"].found["pid"], signal.SIGKILL)
    done["verify"] = ckpt("verify", "-D", chain)
    done["merge"] = ckpt("merge", "-D", chain, "-o", work / "merged.ckpt")
    size = done["dump"].found["bytes_plain"] / 1e9
    ratio = size * 1e9 / done["dump"].found["bytes_stored"]
    report.title(f"full dump and restore of {size:.2f} GB that compress {ratio:.1f} times:")
    report.add("full: zstd alone, one core", core, "GB/s")
    limits = {"dump": 0.5, "restore": 0.7}
    for verb, run in done.items():
        report.add(f"full: {verb}", size / run.seconds, "GB/s", least=limits.get(verb))
        report.add(f"full: {verb}, for each second of CPU", size / run.cpu, "GB/s")
    report.add("full: dump to zstd alone, one core", size / done["dump"].seconds / core, "times")
    for verb, run in {"pre-dump": first, **done}.items():
        report.add(f"full: ckpt's peak memory, {verb}", run.peak_mib, "MiB", most=PEAK_MIB)


def bench_delta(report: Report, work: Path, mib: int, rounds: int) -> None:
    report.title(f"pre-dumps of {mib} MiB with scattered writes:")
    for share in (1, 10, 30, 60):
        place = work / f"share-{share}"
        with target(place, mib, mib * share / 100, "--scattered") as one:
            ckpt("pre-dump", "-t", one.pid, "-D", place / "chain")
            one.dirty()
            run = ckpt("pre-dump", "-t", one.pid, "-D", place / "chain")
        written = run.found["pages_written"] * 4096 / 1e6
        seconds = run.found["memdump_time"] / 1e6
        least = 100 if share == 30 else None
        report.add(f"delta: {share} % dirty, copied and stored", written / seconds, "MB/s", least=least)
        report.add(f"delta: {share} % dirty, stored to plain", run.found["bytes_stored"] / 1e4 / written, "%")
        report.add(f"delta: {share} % dirty, ckpt's peak memory", run.peak_mib, "MiB", most=PEAK_MIB)


def bench_version(report: Report, work: Path, mib: int, rounds: int) -> None:
    times = []
    for _ in range(max(rounds, 5)):
        command = [sys.executable, "-m", "ckpt", "--version"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=ROOT, env=ENVIRONMENT)
        _, _, usage = os.wait4(process.pid, 0)
        process.returncode = 0
        times.append((usage.ru_utime + usage.ru_stime) * 1000)
    report.title("start-up:")
    report.add("version: CPU of ckpt --version", statistics.median(times), "ms", most=150)
    with target(work / "a", 1, 0.01) as one:
        runs = [ckpt("pre-dump", "-t", one.pid, "-D", work / "chain") for _ in range(max(rounds, 5))]
    report.add("version: CPU of ckpt pre-dump, a small task", statistics.median(run.cpu for run in runs) * 1000, "ms")


BENCHES = {
    "pre-dump": (bench_pre_dump, 1024),
    "full": (bench_full, 2048),
    "delta": (bench_delta, 512),
    "scale": (bench_scale, 2048),
    "snapshot": (bench_snapshot, 2048),
    "criu": (bench_criu, 256),
    "version": (bench_version, 0),
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench")
    parser.add_argument("what", nargs="*", choices=[*BENCHES, "criu-inside"], default=[])
    parser.add_argument("--mib", type=int, help="size of the target")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--json", action="store_true", help="one object with every figure, its limit and verdict")
    parser.add_argument("--criu", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    report = Report(options.json)
    for name in options.what or BENCHES:
        with tempfile.TemporaryDirectory(prefix="ckpt-bench.") as place:
            if name == "criu-inside":
                bench_criu_inside(report, Path(place), options.rounds, options.criu)
            else:
                run, mib = BENCHES[name]
                run(report, Path(place), options.mib or mib, options.rounds)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
