"""The redis story of scripts/demo."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

CKPT = [sys.executable, "-m", "ckpt"]


class Redis:
    """A connection that speaks just enough RESP."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self._file = self._socket.makefile("rb")

    def close(self) -> None:
        self._file.close()
        self._socket.close()

    def send(self, *words: str) -> None:
        parts = [f"*{len(words)}\r\n"] + [f"${len(word.encode())}\r\n{word}\r\n" for word in words]
        self._socket.sendall("".join(parts).encode())

    def reply(self) -> bytes | None:
        line = self._file.readline()
        if line[:1] == b"$":
            size = int(line[1:])
            return self._file.read(size + 2)[:-2] if size >= 0 else None
        if not line or line[:1] == b"-":
            raise RuntimeError(f"redis said {line!r}")
        return line[1:].strip()

    def call(self, *words: str) -> bytes | None:
        self.send(*words)
        return self.reply()


class Writer(threading.Thread):
    """Writes in batches and notes what was acknowledged."""

    def __init__(self, port: int, keys: int) -> None:
        super().__init__(daemon=True)
        self.port, self.keys = port, keys
        self.acknowledged: dict[str, str] = {}
        self.stop = threading.Event()

    def run(self) -> None:
        connection = Redis(self.port)
        number = 0
        dice = random.Random(7)
        while not self.stop.is_set():
            batch = []
            for _ in range(100):
                # Every key once, then the hot first hundredth again and again.
                key = number if number < self.keys else dice.randrange(self.keys // 100)
                batch.append((f"key:{key}", f"value:{number}:" + "x" * 100))
                number += 1
            for key, value in batch:
                connection.send("SET", key, value)
            for key, value in batch:
                connection.reply()
                self.acknowledged[key] = value
            if number > self.keys:
                time.sleep(0.005)
        connection.close()


def run(*arguments: object) -> str:
    print("$ ckpt", *arguments, flush=True)
    done = subprocess.run([*CKPT, *map(str, arguments)], stdout=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL)
    print(done.stdout, end="", flush=True)
    if done.returncode:
        sys.exit(f"demo: ckpt {arguments[0]} ended with {done.returncode}")
    return done.stdout


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def differences(port: int, acknowledged: dict[str, str]) -> int:
    connection = Redis(port)
    wrong = 0
    items = list(acknowledged.items())
    for at in range(0, len(items), 500):
        part = items[at : at + 500]
        for key, _ in part:
            connection.send("GET", key)
        wrong += sum(connection.reply() != value.encode() for _, value in part)
    connection.close()
    return wrong


def ended(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    while Path(f"/proc/{pid}").exists():
        time.sleep(0.02)


def main() -> int:
    keys = int(sys.argv[1]) if len(sys.argv) > 1 else 50_000
    with tempfile.TemporaryDirectory(prefix="ckpt-demo.") as name:
        place, port = Path(name), free_port()
        with (place / "redis.log").open("wb") as log:
            server = subprocess.Popen(
                ["redis-server", "--port", str(port), "--save", "", "--appendonly", "no", "--dir", name],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            return story(server, place, port, keys)
        finally:
            server.poll()
            comm = Path(f"/proc/{server.pid}/comm")
            if comm.exists() and comm.read_text().startswith("redis"):
                os.kill(server.pid, signal.SIGKILL)


def story(server: subprocess.Popen[bytes], place: Path, port: int, keys: int) -> int:
    for _ in range(200):
        try:
            Redis(port).close()
            break
        except OSError:
            time.sleep(0.05)
    writer = Writer(port, keys)
    writer.start()
    while len(writer.acknowledged) < keys:
        time.sleep(0.05)
    chain, merged = place / "chain", place / "merged.ckpt"
    print(f"redis-server {server.pid} holds {keys} keys and is written to all the time", flush=True)
    for _ in range(4):
        run("pre-dump", "-t", server.pid, "-D", chain)
        time.sleep(0.3)
    writer.stop.set()
    writer.join()
    time.sleep(0.3)  # redis closes the writer's connection
    run("dump", "-t", server.pid, "-D", chain)
    server.wait()
    acknowledged = dict(writer.acknowledged)
    run("show", "-D", chain)
    run("merge", "-D", chain, "-o", merged)
    run("verify", "-D", chain)
    verdict = {}
    for what, source in (("chain", chain), ("merged image", merged)):
        run("restore", "-D", source, "--detach", "--pidfile", place / "pid")
        verdict[what] = differences(port, acknowledged)
        ended(int((place / "pid").read_text()))
    differ = ", ".join(f"{wrong} from the {what}" for what, wrong in verdict.items())
    print(f"{len(acknowledged)} acknowledged keys were compared after each restore; these differ: {differ}")
    good = not any(verdict.values())
    print("PASS" if good else "FAIL")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
