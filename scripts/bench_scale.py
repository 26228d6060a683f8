"""How ckpt's times grow: with memory, mappings, threads, processes, and addresses that hold nothing."""

from __future__ import annotations

import os
import signal
import statistics
from pathlib import Path

from bench_tools import Report, ckpt, target

PEAK_MIB = 300
# CRIU 4.2 freezes a task 7.5 µs for each mapping, 100 µs for each thread and 1.1 ms for each process while it dumps,
# natively on two cores. ckpt is Python: the same order is ten times that.
VMA_US, THREAD_US, TASK_US = 75, 1000, 11000


def bench_scale(report: Report, work: Path, mib: int, rounds: int) -> None:
    _memory(report, work, mib, rounds)
    base = _shape(report, work, "nothing", 0, None)
    _shape(report, work, "vmas", 10_000, VMA_US, base)
    _shape(report, work, "threads", 1_000, THREAD_US, base)
    _shape(report, work, "tasks", 50, TASK_US, base)
    _shape(report, work, "sparse", 100, None, base)


def bench_snapshot(report: Report, work: Path, mib: int, rounds: int) -> None:
    """Dumps that leave the target running: what grows with memory is to be the fork's part alone."""
    report.title(f"dump --leave-running with 4 MiB dirty a cycle, by a copy-on-write fork, median of {rounds} rounds:")
    frozen, forked, peak = {}, {}, 0.0
    for part in (8, 1):
        place = work / f"snapshot-{part}"
        with target(place, mib // part, 4) as one:
            ckpt("pre-dump", "-t", one.pid, "-D", place / "chain")
            times, forks = [], []
            for _ in range(rounds):
                one.dirty()
                forks.append(one.fork())
                run = ckpt("dump", "-t", one.pid, "-D", place / "chain", "--leave-running", "--snapshot", "fork")
                times.append(run.frozen_ms)
                peak = max(peak, run.peak_mib)
        frozen[part], forked[part] = statistics.median(times), statistics.median(forks)
        report.add(f"snapshot: {mib // part} MiB resident, frozen_time", frozen[part], "ms")
        report.add(f"snapshot: {mib // part} MiB resident, a bare fork", forked[part], "ms")
    grown = (frozen[1] - frozen[8]) / max(forked[1] - forked[8], 0.1)
    report.add("snapshot: what 8 times the memory adds, to a bare fork's", grown, "times", most=2)
    report.add("snapshot: ckpt's peak memory", peak, "MiB", most=PEAK_MIB)


def _memory(report: Report, work: Path, mib: int, rounds: int) -> None:
    report.title(f"frozen_time of pre-dumps with 4 MiB dirty a cycle, median of {rounds} rounds:")
    medians = {}
    for part in (8, 1):
        place = work / f"size-{part}"
        with target(place, mib // part, 4) as one:
            times, peak = [], 0.0
            for number in range(rounds + 1):
                one.dirty()
                run = ckpt("pre-dump", "-t", one.pid, "-D", place / "chain")
                times += [run.frozen_ms] if number else []
                peak = max(peak, run.peak_mib)
        medians[part] = statistics.median(times)
        report.add(f"scale: {mib // part} MiB resident, frozen_time", medians[part], "ms")
    report.add("scale: frozen_time of 8 times the memory", medians[1] / medians[8], "times", most=4)
    report.add("scale: ckpt's peak memory", peak, "MiB", most=PEAK_MIB)


def _shape(
    report: Report, work: Path, kind: str, count: int, limit_us: float | None, base: tuple[float, float] | None = None
) -> tuple[float, float]:
    """Pre-dump, dump and restore of a task with `count` of something; the dump's frozen and the restore's time in ms.

    `base` is the same of a task with none: what is left is for each one.
    """
    place = work / kind
    report.title(f"{count} {kind}:" if count else "a task with nothing special:")
    with target(place, 1, 0.01, f"--{kind}", str(count)) as one:
        chain = place / "chain"
        runs = {"first pre-dump": ckpt("pre-dump", "-t", one.pid, "-D", chain)}
        one.dirty()
        runs["second pre-dump"] = ckpt("pre-dump", "-t", one.pid, "-D", chain)
        runs["dump"] = ckpt("dump", "-t", one.pid, "-D", chain)
        one.process.wait()
        runs["restore"] = ckpt("restore", "-D", chain, "--detach")
        for pid in runs["restore"].found["pids"]:
            os.kill(pid, signal.SIGKILL)
    name = f"scale: {count} {kind}" if count else "scale: nothing"
    for verb, run in runs.items():
        if "frozen_time" in run.found:
            report.add(f"{name}, {verb}, frozen_time", run.frozen_ms, "ms")
        report.add(f"{name}, {verb}, in all", run.seconds * 1000, "ms")
    report.add(f"{name}, ckpt's peak memory", max(run.peak_mib for run in runs.values()), "MiB", most=PEAK_MIB)
    result = runs["dump"].frozen_ms, runs["restore"].found["restore_time"] / 1000
    if base is not None and limit_us is not None:
        for what, mine, theirs in zip(("dump, frozen", "restore"), result, base, strict=True):
            each = (mine - theirs) * 1000 / count
            most = limit_us if what != "restore" else None
            report.add(f"{name}, {what}, for each", each, "us", most=most)
    return result
