"""Trouble in the middle of a round: signals, a dying target, a failing disk. Target and chain are as before.

root: off; guest: off (dozens of interpreters started under emulation take minutes).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import ckpt
from ckpt.kernel import procfs

pytestmark = pytest.mark.timeout(300)
ROOT = Path(__file__).resolve().parent.parent.parent
WAIT = 60.0

TARGET = """
import os, sys, time
heap = bytearray(os.urandom(1 << 20)) * 40
n = 0
while True:
    for at in range(0, len(heap), 8191):
        heap[at] = n & 255
    n += 1
    open(sys.argv[1], "w").write(str(n))
    time.sleep(0.005)
"""

# Does something when ckpt comes to a function for the nth time, in a process of its own.
DRIVER = """
import errno, importlib, os, signal, sys
from ckpt.cli.main import main
from ckpt.engine import round as rounds
action, place, nth, victim = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
module, _, name = place.partition(":")
owner = importlib.import_module(module)
*way, last = name.split(".")
for part in way:
    owner = getattr(owner, part)
function, count = getattr(owner, last), 0
def then(*args, **keywords):
    global count
    count += 1
    if count == nth:
        if action in ("EIO", "ENOSPC"):
            raise OSError(getattr(errno, action), os.strerror(getattr(errno, action)))
        if action == "victim":
            os.kill(victim, signal.SIGKILL)
            while open(f"/proc/{victim}/stat").read().rpartition(")")[2].split()[0] not in "ZX":
                if "State:\\tt" not in open(f"/proc/{victim}/status").read():
                    break
        else:
            os.kill(os.getpid(), getattr(signal, action))
    return function(*args, **keywords)
rounds.rehearse = lambda *_, **__: None  # the same steps on another process: they do not count
setattr(owner, last, then)
sys.exit(main(sys.argv[5:]))
"""

PLACES = {
    "lock": "ckpt.engine.round:prepare",
    "freeze": "ckpt.engine.round:freeze",
    "frozen": "ckpt.engine.round:address_spaces",
    "tracker": "ckpt.engine.spaces:choice.make",
    "map": "ckpt.engine.spaces:populated.guards",
    "copy": "ckpt.engine.copying:_load",
    "write": "ckpt.image.sinks:os.write",
    "commit": "ckpt.chain.round:Round.commit",
    "publish": "ckpt.image.sinks:FileSink.finish",
}
VERBS = {
    "pre-dump": ["pre-dump"],
    "dump": ["dump"],
    "fork": ["dump", "--leave-running", "--snapshot", "fork"],
    "frozen": ["dump", "--leave-running", "--snapshot", "frozen"],
}


@pytest.fixture
def target(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-S", "-c", TARGET, str(tmp_path / "count")],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        end = time.monotonic() + WAIT
        while not (tmp_path / "count").exists():
            assert time.monotonic() < end and process.poll() is None
            time.sleep(0.01)
        yield process
    finally:
        process.kill()
        process.wait()


def names(chain: Path) -> list[str]:
    return sorted(path.name for path in chain.iterdir())


def drive(
    action: str, place: str, pid: int, *arguments: object, nth: int = 1, victim: int = 0
) -> tuple[int, dict[str, object]]:
    """Exit code and error of one command with trouble in it."""
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, action, place, str(nth), str(victim or pid), *map(str, arguments), "--json"],
        capture_output=True, text=True, timeout=WAIT, stdin=subprocess.DEVNULL, cwd=ROOT,
    )  # fmt: skip
    lines = done.stderr.strip().splitlines()
    assert len(lines) <= 1, done.stderr
    error = json.loads(lines[0])["error"] if lines else {}
    assert error.get("exit_code", 0) == done.returncode, done
    return done.returncode, error


def check_goes_on(target: subprocess.Popen[bytes], tmp_path: Path) -> str | None:
    """It runs, untraced, and a round can be made; why that is a full one."""
    assert target.poll() is None
    assert procfs.status(target.pid)["TracerPid"] == "0"
    before = (tmp_path / "count").read_text()
    end = time.monotonic() + WAIT
    while (tmp_path / "count").read_text() in (before, ""):
        assert time.monotonic() < end
        time.sleep(0.01)
    made = ckpt.dump(target.pid, tmp_path / "chain", leave="running")
    assert ckpt.verify(tmp_path / "chain").ok
    assert made.statistics.pages_scanned > 10_000
    return made.header.full_reason


# Every place with every second verb, by turns with one of the signals.
SIGNALS = [
    (verb, place, ("SIGINT", "SIGTERM")[(row + column) // 2 % 2])
    for row, verb in enumerate(VERBS)
    for column, place in enumerate(PLACES)
    if (row + column) % 2 == 0
]


@pytest.mark.parametrize(("verb", "place", "name"), SIGNALS)
def test_a_signal_ends_a_round(
    target: subprocess.Popen[bytes], tmp_path: Path, verb: str, place: str, name: str
) -> None:
    chain = tmp_path / "chain"
    ckpt.pre_dump(target.pid, chain)
    before = names(chain)
    code, error = drive(name, PLACES[place], target.pid, *VERBS[verb], "-t", target.pid, "-D", chain)
    assert (code, error["type"]) == (128 + getattr(signal, name), "Interrupted"), error
    if place in ("commit", "publish"):  # it came when the image was as good as there
        assert names(chain) == sorted([*before, "0002.ckpt"])
        if verb == "dump":
            target.wait(WAIT)
            return
    else:
        assert names(chain) == before
    check_goes_on(target, tmp_path)


DEATHS = [
    (verb, place)
    for row, verb in enumerate(VERBS)
    for column, place in enumerate(place for place in PLACES if place not in ("write", "publish"))
    if (row + column) % 2
]


@pytest.mark.parametrize(("verb", "place"), DEATHS)
def test_the_target_dies_in_a_round(target: subprocess.Popen[bytes], tmp_path: Path, verb: str, place: str) -> None:
    chain = tmp_path / "chain"
    ckpt.pre_dump(target.pid, chain)
    before = names(chain)
    code, error = drive("victim", PLACES[place], target.pid, *VERBS[verb], "-t", target.pid, "-D", chain)
    if code == 0:  # everything had been copied
        assert place in ("copy", "commit"), place
        assert names(chain) == sorted([*before, "0002.ckpt"])
    else:
        assert code in (21, 24), error
        assert names(chain) == before
    assert ckpt.verify(chain).ok
    assert target.wait(WAIT) == -signal.SIGKILL


FAILURES = {
    "full": ("ENOSPC", "ckpt.image.sinks:os.write", 1),
    "failing": ("EIO", "ckpt.image.sinks:os.write", 4),
    "fsync-of-the-image": ("EIO", "ckpt.image.sinks:os.fsync", 3),
    "fsync-of-the-directory": ("EIO", "ckpt.image.sinks:os.fsync", 4),
    "rename": ("EIO", "ckpt.image.sinks:Path.rename", 2),
    "journal": ("EIO", "ckpt.chain.journal:write_all", 1),
}


@pytest.mark.parametrize(
    ("failure", "verb"), [*zip(FAILURES, [*VERBS, "dump", "pre-dump"], strict=True), ("rename", "fork")]
)
def test_the_disk_fails_in_a_round(target: subprocess.Popen[bytes], tmp_path: Path, failure: str, verb: str) -> None:
    action, place, nth = FAILURES[failure]
    chain = tmp_path / "chain"
    ckpt.pre_dump(target.pid, chain)
    before = names(chain)
    code, error = drive(action, place, target.pid, *VERBS[verb], "-t", target.pid, "-D", chain, nth=nth)
    assert code == 32 and error["hint"], error
    assert names(chain) == before
    reason = check_goes_on(target, tmp_path)
    if verb == "dump":  # it was to be the last and armed nothing: what was armed before serves on
        assert reason is None


@pytest.mark.skipif(os.getuid() != 0, reason="mounts a small file system: run as root")
@pytest.mark.parametrize("verb", ["pre-dump", "fork"])
def test_the_disk_is_full(target: subprocess.Popen[bytes], tmp_path: Path, verb: str) -> None:
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "none", str(small)], capture_output=True).returncode:
        pytest.skip("nothing may be mounted here")
    try:
        chain = small / "chain"
        done = subprocess.run(
            [sys.executable, "-m", "ckpt", *VERBS[verb], "-t", str(target.pid), "-D", str(chain), "--json"],
            capture_output=True, text=True, cwd=ROOT,
        )  # fmt: skip
        error = json.loads(done.stderr)["error"]
        assert done.returncode == 32 and "No space left" in error["message"] and "free space" in error["hint"]
        assert not chain.exists()
    finally:
        subprocess.run(["umount", str(small)], check=True)
    check_goes_on(target, tmp_path)


OTHERS = [
    ("SIGINT", "ckpt.image.sinks:os.write", ["merge"]),
    ("SIGTERM", "ckpt.image.sinks:FileSink.finish", ["merge"]),
    ("SIGTERM", "ckpt.image.reader:ImageReader.__init__", ["verify"]),
]
if os.getuid() == 0:  # choosing pids needs root
    OTHERS += [
        ("SIGINT", "ckpt.kernel.memory:writev", ["restore", "--detach"]),
        ("SIGTERM", "ckpt.kernel.ptrace_requests:setregset", ["restore", "--detach"]),
    ]


def test_a_signal_ends_the_other_verbs(target: subprocess.Popen[bytes], tmp_path: Path) -> None:
    chain, merged = tmp_path / "chain", tmp_path / "merged.ckpt"
    ckpt.dump(target.pid, chain)
    target.wait(WAIT)
    before, beside = names(chain), names(tmp_path)
    for name, place, verb in OTHERS:
        output = ["-o", merged] if verb == ["merge"] else []
        code, error = drive(name, place, 0, *verb, "-D", chain, *output)
        assert (code, error["type"]) == (128 + getattr(signal, name), "Interrupted"), (place, error)
        assert names(chain) == before and names(tmp_path) == beside
        assert not procfs.exists(target.pid), place
    assert ckpt.verify(chain).ok
