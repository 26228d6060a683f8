"""A worker whose listener, or bound socket, its master outside the tree holds, too: both have it again afterwards."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.commands import commands
from tests.support.proc import become_subreaper, is_dead
from tests.support.programs import until

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

WORKER = """
import os, socket, sys
shared = socket.socket(fileno=int(sys.argv[1]))
open(sys.argv[2], "w").close()
while True:
    if shared.type == socket.SOCK_DGRAM:
        data, sender = shared.recvfrom(100)
        shared.sendto(b"worker:" + data, sender)
        continue
    client = shared.accept()[0]
    client.send(b"worker:" + client.recv(100))
"""


def bound(family: int, kind: int, name: object, *options: int) -> socket.socket:
    made = socket.socket(family, kind)
    for option in options:
        made.setsockopt(socket.SOL_SOCKET, option, 1)
    made.bind(name)  # type: ignore[arg-type]
    if kind == socket.SOCK_STREAM:
        made.listen()
    return made


KINDS: dict[str, Callable[[Path], socket.socket]] = {
    "tcp": lambda _: bound(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0)),
    "tcp-reuseport": lambda _: bound(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0), socket.SO_REUSEPORT),
    "udp-reuseaddr": lambda _: bound(socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0), socket.SO_REUSEADDR),
    "udp": lambda _: bound(socket.AF_INET6, socket.SOCK_DGRAM, ("::1", 0)),
    "unix": lambda place: bound(socket.AF_UNIX, socket.SOCK_STREAM, str(place / "socket")),
    "unix-datagrams": lambda place: bound(socket.AF_UNIX, socket.SOCK_DGRAM, str(place / "socket")),
    "abstract-datagrams": lambda _: bound(socket.AF_UNIX, socket.SOCK_DGRAM, f"\0ckpt-shared-{os.getpid()}"),
    "abstract": lambda _: bound(socket.AF_UNIX, socket.SOCK_STREAM, f"\0ckpt-shared-{os.getpid()}"),
}


@pytest.fixture(params=list(KINDS))
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[socket.socket]:
    made = KINDS[request.param](tmp_path)  # without a timeout, for O_NONBLOCK would be the worker's, too
    yield made
    made.close()


def ask(shared: socket.socket) -> bytes:
    with socket.socket(shared.family, shared.type) as client:
        client.settimeout(20)
        if shared.family == socket.AF_UNIX and shared.type == socket.SOCK_DGRAM:
            client.bind(b"")
        client.connect(shared.getsockname())
        client.send(b"hello")
        return client.recv(100)


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    until(lambda: is_dead(pid), "it ends")


@pytest.fixture(autouse=True)
def _reaper() -> Iterator[None]:
    become_subreaper()
    yield
    become_subreaper(False)


def test_shared(shared: socket.socket, tmp_path: Path) -> None:
    ready, images = tmp_path / "ready", tmp_path / "images"
    words = [sys.executable, "-S", "-c", WORKER, str(shared.fileno()), str(ready)]
    null = subprocess.DEVNULL
    worker = subprocess.Popen(
        words, pass_fds=[shared.fileno()], start_new_session=True, stdin=null, stdout=null, stderr=null
    )
    stream = shared.type == socket.SOCK_STREAM
    try:
        until(ready.exists, "the worker is ready")
        for command in ("pre-dump", "dump"):
            assert ask(shared) == b"worker:hello"
            done = commands().run([command, "-t", str(worker.pid), "-D", str(images)], tmp_path)
            assert done.returncode == 0, done.stderr
        worker.wait()
        done = commands().run(["restore", "-D", str(images), "--detach"], tmp_path)
        assert done.returncode == 0, done.stderr
        for _ in range(8):  # two sockets of one port would have some each
            assert ask(shared) == b"worker:hello"
        kill(worker.pid)
        with socket.socket(shared.family, shared.type) as client:
            client.connect(shared.getsockname())
            client.send(b"now the master")
            with shared.accept()[0] if stream else shared as receiver:
                assert receiver.recv(100) == b"now the master"
    finally:
        if not is_dead(worker.pid):
            kill(worker.pid)
        worker.poll()
