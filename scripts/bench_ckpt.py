"""The measurements of scripts/bench. Numbers stand beside others of the same run and are compared with no other's."""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ckpt.kernel import uapi_pagemap as up
from ckpt.kernel.pagemap import Pagemap

ROOT = Path(__file__).resolve().parent.parent
PTRACE_SEIZE, PTRACE_INTERRUPT, PTRACE_DETACH = 0x4206, 0x4207, 17
_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]


@dataclass
class Target:
    process: subprocess.Popen[bytes]
    place: Path
    size: int
    cycle: int = 0

    @property
    def pid(self) -> int:
        return self.process.pid

    def dirty(self) -> None:
        """One cycle of writes, finished when this returns."""
        self.cycle += 1
        os.kill(self.pid, signal.SIGUSR1)
        wait_for(lambda: text(self.place / "cycle") == str(self.cycle), "the target's cycle")


def text(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def wait_for(condition: Any, what: str, seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"bench: waited {seconds} s for {what}")
        time.sleep(0.01)


@contextmanager
def target(place: Path, mib: int, hot: float, *extra: str) -> Iterator[Target]:
    place.mkdir()
    command = [sys.executable, str(ROOT / "scripts/bench_target.py"), str(place), str(mib), str(hot), *extra]
    with (place / "log").open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=ROOT)
    try:
        wait_for(lambda: text(place / "where") or process.poll() is not None, "the target")
        if process.poll() is not None:
            raise SystemExit(f"bench: the target failed:\n{text(place / 'log')}")
        yield Target(process, place, mib << 20)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def ckpt(*arguments: object) -> tuple[dict[str, Any], float, int]:
    """One command: (its JSON, seconds, peak memory of ckpt in bytes)."""
    command = [sys.executable, "-m", "ckpt", *map(str, arguments), "--json"]
    with tempfile.TemporaryFile() as out:
        start = time.perf_counter()
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, cwd=ROOT)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"bench: ckpt {arguments[0]} ended with {process.returncode}")
        out.seek(0)
        return json.loads(out.read()), seconds, usage.ru_maxrss << 10


def ptrace(request: int, pid: int) -> None:
    if _libc.ptrace(request, pid, None, None) < 0:
        raise OSError(ctypes.get_errno(), "ptrace")


def bare(victim: Target) -> float:
    """Microseconds of one seize and one PAGEMAP_SCAN that reads and re-arms: the least that a round can freeze for."""
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
        return (time.perf_counter() - begin) * 1e6


def bench_pre_dump(work: Path, mib: int, rounds: int) -> None:
    chain = work / "chain"
    with target(work / "a", mib, mib / 100) as one, target(work / "b", mib, mib / 100, "--arm") as other:
        bare(other)
        first = ckpt("pre-dump", "-t", one.pid, "-D", chain, "--tracker", "write-protect")[0]
        frozen, least = [], []
        for _ in range(rounds):
            one.dirty()
            other.dirty()
            least.append(bare(other))
            frozen.append(ckpt("pre-dump", "-t", one.pid, "-D", chain, "--tracker", "write-protect")[0])
        idle = ckpt("pre-dump", "-t", one.pid, "-D", chain, "--tracker", "write-protect")[0]
    times = [r["frozen_time"] for r in frozen]
    mine, theirs = statistics.median(times), statistics.median(least)
    print(f"pre-dump of {mib} MiB, 1 % dirty a cycle, {rounds} rounds by write-protect:")
    print(f"  frozen_time: median {mine / 1000:.2f} ms, worst {max(times) / 1000:.2f} ms; round 1 {ms(first)}")
    print(f"  bare seize + PAGEMAP_SCAN: median {theirs / 1000:.2f} ms; ratio {mine / theirs:.2f}")
    print(f"  pages written a round: {statistics.median(r['pages_written'] for r in frozen):.0f}")
    print(f"  idle round: {idle['pages_written']} pages, image of {idle['size']} bytes, frozen {ms(idle)}")


def ms(found: dict[str, Any]) -> str:
    return f"{found['frozen_time'] / 1000:.2f} ms"


def bench_full(work: Path, mib: int, rounds: int) -> None:
    chain = work / "chain"
    with target(work / "a", mib, 1) as one:
        made, dump_seconds, dump_peak = ckpt("dump", "-t", one.pid, "-D", chain)
        one.process.wait()
        back, restore_seconds, restore_peak = ckpt("restore", "-D", chain, "--detach")
        os.kill(back["pid"], signal.SIGKILL)
    size = made["bytes_plain"]
    print(f"full dump and restore of {size / 1e9:.2f} GB that compress {size / made['bytes_stored']:.1f} times:")
    for verb, seconds, peak in (("dump", dump_seconds, dump_peak), ("restore", restore_seconds, restore_peak)):
        print(f"  {verb}: {seconds:.2f} s, {size / 1e9 / seconds:.2f} GB/s, ckpt's peak memory {peak >> 20} MiB")


def bench_scale(work: Path, mib: int, rounds: int) -> None:
    print(f"frozen_time with 4 MiB dirty a cycle, median of {rounds} rounds:")
    base = 0.0
    for part in (8, 4, 2, 1):
        place = work / f"size-{part}"
        with target(place, mib // part, 4) as one:
            times = []
            for number in range(rounds + 1):
                one.dirty()
                found = ckpt("pre-dump", "-t", one.pid, "-D", place / "chain")[0]
                times += [found["frozen_time"]] if number else []
        median = statistics.median(times)
        base = base or median
        print(f"  {mib // part:6} MiB: {median / 1000:.2f} ms, {median / base:.2f} times the first")


def bench_snapshot(work: Path, mib: int, rounds: int) -> None:
    """The same target in turn: forked, and copied while it stands still; each dump is a full one."""
    print(f"dump --leave-running of a target with everything to be copied, median frozen_time of {rounds} dumps:")
    for part in (16, 8, 4, 2, 1):
        frozen: dict[str, list[int]] = {"fork": [], "frozen": []}
        with target(work / f"size-{part}", mib // part, 4) as one:
            for number in range(rounds):
                for how, times in frozen.items():
                    chain = work / f"{part}-{how}-{number}"
                    made = ckpt("dump", "-t", one.pid, "-D", chain, "--leave-running", "--snapshot", how)[0]
                    shutil.rmtree(chain)
                    times.append(made["frozen_time"])
        fork, copied = (statistics.median(times) for times in frozen.values())
        print(f"  {mib // part:6} MiB: fork {fork / 1000:.1f} ms, frozen {copied / 1000:.1f} ms")


def bench_version(work: Path, mib: int, rounds: int) -> None:
    times = []
    for _ in range(max(rounds, 5)):
        process = subprocess.Popen([sys.executable, "-m", "ckpt", "--version"], stdout=subprocess.DEVNULL)
        _, _, usage = os.wait4(process.pid, 0)
        process.returncode = 0
        times.append((usage.ru_utime + usage.ru_stime) * 1000)
    print(f"ckpt --version: median {statistics.median(times):.0f} ms of CPU")


CRIU = ROOT / ".guest" / "criu"
CRIU_PACKAGES = ["criu", "libbsd0", "libnet1", "libnftables1", "libnl-3-200", "libprotobuf-c1"]


def bench_criu(work: Path, mib: int, rounds: int) -> None:
    """Fetch CRIU, and go on in the guest: this host may lack what CRIU needs."""
    if not (CRIU / "complete").exists():
        shutil.rmtree(CRIU, ignore_errors=True)
        CRIU.mkdir(parents=True)
        with tempfile.TemporaryDirectory() as place:
            subprocess.run(["apt-get", "download", "-q", *CRIU_PACKAGES], cwd=place, check=True, capture_output=True)
            for deb in Path(place).glob("*.deb"):
                subprocess.run(["dpkg", "-x", str(deb), str(CRIU)], check=True)
        (CRIU / "complete").touch()
    place = "/run/criu"
    guest = [str(ROOT / "scripts/guest"), "6.1", "--share", f"{place}={CRIU}", "--timeout", "1800", "--"]
    inside = [str(ROOT / ".venv/bin/python"), "scripts/bench_ckpt.py", "criu-inside", "--criu", place]
    subprocess.run([*guest, *inside, "--rounds", str(rounds)], check=True)


def bench_criu_inside(work: Path, rounds: int, criu: Path) -> None:
    """Both tools take the same target by turns, each into a chain of its own, with 8 of 256 MiB dirtied before each."""
    environment = {**os.environ, "LD_LIBRARY_PATH": f"{criu}/usr/lib/x86_64-linux-gnu:{criu}/lib/x86_64-linux-gnu"}
    frozen: dict[str, list[int]] = {"criu": [], "ckpt": []}
    with target(work / "a", 256, 8) as one:
        # CRIU clears the soft-dirty bits of everyone; each tool gets all its rounds in one go.
        for number in range(rounds):
            images = work / "criu" / str(number)
            images.mkdir(parents=True)
            parent = ["--prev-images-dir", f"../{number - 1}"] if number else []
            one.dirty()
            command = [f"{criu}/usr/sbin/criu", "pre-dump", "-t", str(one.pid), "-D", str(images), "--track-mem"]
            done = subprocess.run([*command, *parent, "-o", "log"], env=environment, stdin=subprocess.DEVNULL)
            if done.returncode:
                raise SystemExit(f"bench: criu failed:\n{text(images / 'log')[-3000:]}")
            frozen["criu"].append(criu_frozen_time(images / "stats-dump"))
        for _ in range(rounds):
            one.dirty()
            frozen["ckpt"].append(ckpt("pre-dump", "-t", one.pid, "-D", work / "chain")[0]["frozen_time"])
    print(f"pre-dumps of 256 MiB with 8 MiB dirty a cycle on {os.uname().release}, under emulation:")
    for name, times in frozen.items():
        later = statistics.median(times[1:])
        print(f"  {name}: first frozen {times[0] / 1000:.1f} ms, later median {later / 1000:.1f} ms")
    ratio = statistics.median(frozen["criu"][1:]) / statistics.median(frozen["ckpt"][1:])
    print(f"  CRIU froze the target {ratio:.2f} times as long in later rounds")


def criu_frozen_time(path: Path) -> int:
    """frozen_time in CRIU's stats-dump: two magics and a size, then stats_entry { dump = 1 { frozen_time = 2 } }."""
    data = path.read_bytes()[12:]
    fields = dict(varint_fields(dict(varint_fields(data))[1]))
    return int(fields[2])


def varint_fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """The fields of a protobuf message that holds only varints and messages."""
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(data):
        key = varint()
        value = varint()
        if key & 7 == 2:
            yield key >> 3, data[at : at + value]
            at += value
        else:
            yield key >> 3, value


BENCHES = {
    "pre-dump": (bench_pre_dump, 1024),
    "full": (bench_full, 2048),
    "scale": (bench_scale, 2048),
    "snapshot": (bench_snapshot, 1024),
    "criu": (bench_criu, 256),
    "version": (bench_version, 0),
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench")
    parser.add_argument("what", nargs="*", choices=[*BENCHES, "criu-inside"], default=[])
    parser.add_argument("--mib", type=int, help="size of the target")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--criu", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    for name in options.what or BENCHES:
        with tempfile.TemporaryDirectory(prefix="ckpt-bench.") as place:
            if name == "criu-inside":
                bench_criu_inside(Path(place), options.rounds, options.criu)
            else:
                run, mib = BENCHES[name]
                run(Path(place), options.mib or mib, options.rounds)
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
