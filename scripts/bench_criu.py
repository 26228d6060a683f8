"""CRIU and ckpt by turns on one target, in Debian's 6.1 under emulation."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench_tools import ROOT, Report, ckpt, target, text

CRIU = ROOT / ".guest" / "criu"
# CRIU and the libraries that a small system may lack.
CRIU_PACKAGES = [
    *("criu", "libbsd0", "libjansson4", "libmnl0", "libnet1", "libnftables1", "libnftnl11"),
    *("libnl-3-200", "libprotobuf-c1", "libxtables12"),
]


def bench_criu(report: Report, work: Path, mib: int, rounds: int) -> None:
    """Fetch CRIU, and go on in the guest: this host may lack what CRIU needs."""
    if text(CRIU / "complete").split() != CRIU_PACKAGES:
        shutil.rmtree(CRIU, ignore_errors=True)
        CRIU.mkdir(parents=True)
        with tempfile.TemporaryDirectory() as place:
            subprocess.run(["apt-get", "download", "-q", *CRIU_PACKAGES], cwd=place, check=True, capture_output=True)
            for deb in Path(place).glob("*.deb"):
                subprocess.run(["dpkg", "-x", str(deb), str(CRIU)], check=True)
        (CRIU / "complete").write_text(" ".join(CRIU_PACKAGES))
    place = "/run/criu"
    guest = [str(ROOT / "scripts/guest"), "6.1", "--parallel", "--share", f"{place}={CRIU}", "--timeout", "1800", "--"]
    inside = [str(ROOT / ".venv/bin/python"), "scripts/bench_ckpt.py", "criu-inside", "--criu", place]
    command = [*guest, *inside, "--rounds", str(rounds), "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    found = [line for line in done.stdout.splitlines() if line.startswith('{"figures"')]
    if not found:
        raise SystemExit(f"bench: the guest gave no figures:\n{done.stdout[-3000:]}")
    report.title(f"pre-dumps of {mib} MiB with 8 MiB dirty a cycle, in the 6.1 guest:")
    report.take(found[-1])


def bench_criu_inside(report: Report, work: Path, rounds: int, criu: Path) -> None:
    """Both tools take the same target by turns, each into a chain of its own, with 8 of 256 MiB dirtied before each."""
    environment = {**os.environ, "LD_LIBRARY_PATH": f"{criu}/usr/lib/x86_64-linux-gnu:{criu}/lib/x86_64-linux-gnu"}
    frozen: dict[str, list[float]] = {"criu": [], "ckpt": []}
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
            frozen["criu"].append(criu_frozen_time(images / "stats-dump") / 1000)
        for _ in range(rounds):
            one.dirty()
            run = ckpt("pre-dump", "-t", one.pid, "-D", work / "chain")
            frozen["ckpt"].append(run.frozen_ms)
    for name, times in frozen.items():
        report.add(f"criu: {name} pre-dump, first frozen_time", times[0], "ms")
        report.add(f"criu: {name} pre-dump, later frozen_time, median", statistics.median(times[1:]), "ms")
    ratio = statistics.median(frozen["criu"][1:]) / statistics.median(frozen["ckpt"][1:])
    report.add("criu: frozen_time of CRIU to that of ckpt", ratio, "times", least=10)


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
