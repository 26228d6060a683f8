"""Refusals come all at once, the same from doctor and dump, and cost neither the task nor the chain anything."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ckpt import dump
from ckpt.errors import NotDumpable
from ckpt.state import aio
from tests.support.commands import commands

PROGRAM = """
import mmap, os, sys, time
memory = mmap.mmap(-1, 1 << 20)
while True:
    time.sleep(0.01)
    memory[0] = (memory[0] + 1) % 256
    sys.stdout.write("x")
    sys.stdout.flush()
"""


def ckpt(place: Path, *arguments: object) -> tuple[int, dict[str, object]]:
    done = commands().run([*map(str, arguments), "--json"], place)
    return done.returncode, json.loads(done.stdout or done.stderr)


def test_all_at_once_and_free_of_charge(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        program = subprocess.Popen(
            [sys.executable, "-S", "-c", PROGRAM],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
        )
        assert program.stdout is not None
        try:
            program.stdout.read(1)
            chain = tmp_path / "chain"
            assert ckpt(tmp_path, "pre-dump", "-t", program.pid, "-D", chain)[0] == 0
            code, said = ckpt(tmp_path, "doctor", "-t", program.pid)
            assert (code, said["dumpable"]) == (NotDumpable.exit_code, False)
            code, refused = ckpt(tmp_path, "dump", "-t", program.pid, "-D", chain)
            assert code == NotDumpable.exit_code
            listed = refused["error"]["refusals"]  # type: ignore[index]
            found = {(r["object"].split(" ")[0], r["reason"]) for r in listed}
            assert found == {(r["subject"].split(" ")[0], r["reason"]) for r in said["refusals"]}  # type: ignore[attr-defined]
            assert {"fd 1", f"fd {theirs.fileno()}"} <= {" ".join(r["object"].split()[:2]) for r in listed}
            assert all(r["hint"] for r in listed)
            program.stdout.read(10)
            code, after = ckpt(tmp_path, "pre-dump", "-t", program.pid, "-D", chain)
            assert (code, after["round"], after["full_reason"]) == (0, 2, None), "the chain is as it was"
        finally:
            program.kill()
            program.stdout.close()
            program.wait()


@pytest.mark.parametrize(("pid", "code"), [(1 << 22, 21), (os.getpid(), 20)])
def test_doctor_of_what_cannot_be_frozen(tmp_path: Path, pid: int, code: int) -> None:
    got, said = ckpt(tmp_path, "doctor", "-t", pid)
    assert got == code and said["error"]["hint"]  # type: ignore[index]


def test_doctor_of_a_tree_that_ckpt_is_in(tmp_path: Path) -> None:
    got, said = ckpt(tmp_path, "doctor", "-t", 1)
    assert got == 20 and "inside the tree" in said["error"]["message"], said  # type: ignore[index]


WAITING = """
import signal, socket, struct, sys
link = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
link.send(struct.pack("<IHHIIBxxxi8x", 32, 18, 0x301, 7, 0, 0, 0))
def read(*_):
    link.setblocking(False)
    try:
        while link.recv(1 << 20):
            pass
    except BlockingIOError:
        open(sys.argv[1], "w").close()
signal.signal(signal.SIGUSR1, read)
print("ready", flush=True)
while True:
    signal.pause()
"""


@pytest.mark.root
def test_a_state_that_passes_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done, said = tmp_path / "done", tmp_path / "said"
    with said.open("w") as out:
        program = subprocess.Popen(
            [sys.executable, "-S", "-c", WAITING, str(done)], stdin=subprocess.DEVNULL, stdout=out
        )
    sleep, attempts = time.sleep, 0

    def moment(seconds: float) -> None:
        nonlocal attempts
        if sys._getframe(1).f_code.co_name != "run_round":
            sleep(seconds)
            return
        attempts += 1
        if attempts == 2:  # as if the task had come to it by itself
            program.send_signal(signal.SIGUSR1)
            while not done.exists():
                assert program.poll() is None

    try:
        while not said.read_text():
            assert program.poll() is None
        monkeypatch.setattr(time, "sleep", moment)
        dump(program.pid, tmp_path / "chain", leave="running")
        assert attempts == 2
        assert program.poll() is None
    finally:
        program.kill()
        program.wait()


POLL = """
import ctypes, os, socket, struct, sys
libc = ctypes.CDLL(None)
ours = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
ours.bind(("127.0.0.1", 0))
context, event = ctypes.c_ulong(), ctypes.create_string_buffer(32)
block = ctypes.create_string_buffer(struct.pack("<QIiHhIQQqQII", 7, 0, 0, 5, 0, ours.fileno(), 1, 0, 0, 0, 0, 0))
assert libc.syscall(206, 4, ctypes.byref(context)) == 0
assert libc.syscall(209, context, 1, ctypes.byref(ctypes.pointer(block))) == 1
with open(sys.argv[1] + "/port", "w") as file:
    file.write(str(ours.getsockname()[1]))
os.rename(sys.argv[1] + "/port", sys.argv[1] + "/ready")
assert libc.syscall(208, context, 1, 1, event, None) == 1
with open(sys.argv[1] + "/event", "w") as file:
    file.write(str(struct.unpack_from("<Q", event)[0]))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs CAP_BPF")
def test_a_request_that_waits_for_somebody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux AIO: refused while nobody sends; kept when what it waits for comes while the task stands still."""
    nowhere = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    program = subprocess.Popen([sys.executable, "-S", "-c", POLL, tmp_path], start_new_session=True, **nowhere)
    try:
        _until((tmp_path / "ready").exists)
        with pytest.raises(NotDumpable, match="request under way"):
            dump(program.pid, tmp_path / "chain")
        chain = tmp_path / "other"
        monkeypatch.setattr(aio, "_PATIENCE", 60.0)  # however late the datagram comes
        with ThreadPoolExecutor() as pool:
            taken = pool.submit(dump, program.pid, chain)
            _until(lambda: taken.done() or "(tracing stop)" in Path(f"/proc/{program.pid}/status").read_text())
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                sender.sendto(b"x", ("127.0.0.1", int((tmp_path / "ready").read_text())))
            taken.result()
        program.wait()  # the dump has reaped it
        assert not (tmp_path / "event").exists()
        assert commands().run(["restore", "-D", str(chain)], tmp_path).returncode == 0
        assert (tmp_path / "event").read_text() == "7"
    finally:
        program.kill()
        program.wait()


def _until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.005)
