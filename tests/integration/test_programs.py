"""Real programs: three pre-dumps under load, a dump, and restores from the chain, from the merged image, and again.

Each is skipped where it is not installed. A client of the test's own stays connected across all of it.
"""

from __future__ import annotations

import http.client
import itertools
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.programs import WAIT, Line, Program, ask_anew, free_port, need, reap, until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: restores under the old pids"),
]
SOURCES = Path(__file__).resolve().parent.parent / "programs"
"""Servers that answer each line with how many lines all their clients have sent."""


def test_redis(program: Program) -> None:
    need("redis-server")
    port = free_port()
    program.options = ["--tcp-established"]
    program.start("redis-server", "--port", port, "--save", "", "--appendonly", "no", "--dir", program.place)
    client, count = Line(port), itertools.count(1)

    def load() -> None:
        for _ in range(500):
            assert client.ask("INCR n") == f":{next(count)}"
        assert ask_anew(port, "PING") == "+PONG"

    load()
    program.through(load)
    client.close()


def test_memcached(program: Program) -> None:
    need("memcached")
    port = free_port()
    program.options = ["--tcp-established"]
    program.start("memcached", "-p", port, "-l", "127.0.0.1", "-u", "nobody", "-U", 0)
    client, count = Line(port), itertools.count(1)
    assert client.ask("set n 0 0 20\r\n" + "0".ljust(20)) == "STORED"

    def load() -> None:
        for _ in range(200):
            assert client.ask("incr n 1").strip() == str(next(count))
        assert ask_anew(port, "version").startswith("VERSION")

    program.through(load)
    client.close()


def test_nginx(program: Program) -> None:
    need("nginx")
    port = free_port()
    (program.place / "page").write_text("a page" * 1000)
    program.place.chmod(0o755)
    (program.place / "nginx.conf").write_text(
        f"daemon off; worker_processes 2; user root; pid {program.place}/pid; error_log {program.place}/errors;\n"
        f"events {{}} http {{ access_log {program.place}/access; keepalive_timeout 600; keepalive_requests 100000;\n"
        f"server {{ listen 127.0.0.1:{port}; root {program.place}; }} }}\n"
    )
    program.options = ["--tcp-established"]
    program.start("nginx", "-p", program.place, "-c", program.place / "nginx.conf")
    Line(port).close()
    kept = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT)

    def load() -> None:
        fresh = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT)
        for connection in (kept, fresh):
            for _ in range(20):
                connection.request("GET", "/page")
                answer = connection.getresponse()
                assert (answer.status, len(answer.read())) == (200, 6000)
        fresh.close()

    load()
    program.through(load)
    kept.close()


def test_postgres(program: Program) -> None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if not found:
        pytest.skip("PostgreSQL is not installed")
    need("psql")
    bin_, port, data = found[-1].parent, free_port(), program.place / "data"
    shutil.chown(program.place, "postgres")
    for parent in program.place.parents[:2]:
        parent.chmod(0o755)
    as_user: dict[str, object] = {"user": "postgres", "group": "postgres", "extra_groups": []}
    made = [str(bin_ / "initdb"), "-D", str(data), "-A", "trust", "--no-sync"]
    subprocess.run(made, check=True, stdout=subprocess.DEVNULL, cwd=program.place, **as_user)
    words = [
        "-c",
        f"port={port}",
        "-c",
        "unix_socket_directories=",
        "-c",
        "listen_addresses=127.0.0.1",
        "-c",
        "fsync=off",
    ]
    program.options = ["--tcp-established"]
    program.start(bin_ / "postgres", "-D", data, *words, **as_user)
    until(
        lambda: subprocess.run([bin_ / "pg_isready", "-h", "127.0.0.1", "-p", str(port), "-q"]).returncode == 0, "ready"
    )
    sessions = [Psql(port) for _ in range(3)]
    sessions[0].ask("create table t (session int, n int)")
    for number, session in enumerate(sessions):
        session.ask("begin")
        session.ask(f"insert into t values ({number}, -1)")
    done = itertools.count(1)

    def load() -> None:
        n = next(done)
        for number, session in enumerate(sessions):
            session.ask(f"insert into t values ({number}, {n})")
            assert session.ask("select count(*) from t") == str(n + 1), "only its own rows: the transactions are open"

    load()
    program.through(load)
    for session in sessions:
        session.ask("commit")
    assert sessions[1].ask("select count(*), min(n) from t") == f"{3 * next(done)}|-1"
    sessions.append(Psql(port))
    assert sessions[-1].ask("select count(*) from t where n = 2") == "3"
    for session in sessions:
        session.close()


class Psql:
    """A psql that stays connected."""

    def __init__(self, port: int) -> None:
        command = ["psql", "-h", "127.0.0.1", "-p", str(port), "-U", "postgres", "-d", "postgres", "-qAtX"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen(command, **pipes)  # type: ignore[call-overload]

    def ask(self, query: str) -> str:
        self.process.stdin.write(f"{query};\n\\echo .\n")
        self.process.stdin.flush()
        lines = []
        while (line := self.process.stdout.readline()) != ".\n":
            assert line, "psql ended"
            lines.append(line.strip())
        return "\n".join(lines)

    def close(self) -> None:
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()


def counting(program: Program, *command: object, port: int) -> None:
    """A server that answers each line with how many it has had, from all its clients."""
    program.options = ["--tcp-established"]
    program.start(*command)
    client, count = Line(port), itertools.count(1)

    def load() -> None:
        for _ in range(10):
            assert client.ask("x") == str(next(count))
        assert ask_anew(port, "y") == str(next(count))

    load()
    program.through(load)
    client.close()


@pytest.mark.parametrize(
    "command",
    [
        pytest.param((sys.executable, "counter_asyncio.py"), id="asyncio"),
        pytest.param(("node", "counter.js"), id="node"),
        pytest.param(("java", "-Xmx256m", "Counter.java"), id="java"),
        pytest.param(("perl", "counter.pl"), id="perl"),
        pytest.param(("tclsh", "counter.tcl"), id="tclsh"),
        pytest.param(("ruby", "counter.rb"), id="ruby"),
        pytest.param(("php", "counter.php"), id="php"),
        pytest.param(("escript", "counter.escript"), id="erlang"),
        pytest.param(("guile", "--no-auto-compile", "counter.scm"), id="guile"),
    ],
)
def test_interpreter(program: Program, command: tuple[str, ...]) -> None:
    need(command[0])
    port = free_port()
    counting(program, *command[:-1], SOURCES / command[-1], port, port=port)


def test_go(program: Program) -> None:
    need("go")
    settings = {**os.environ, "GOFLAGS": "-mod=mod", "GO111MODULE": "off", "GOCACHE": str(program.place / "cache")}
    subprocess.run(
        ["go", "build", "-o", "program", str(SOURCES / "counter.go")], cwd=program.place, env=settings, check=True
    )
    port = free_port()
    counting(program, program.place / "program", port, port=port)


def test_java_when_another_jvm_has_tidied_up(program: Program) -> None:
    """A JVM that starts removes the counters, a mapped file, of all those that have ended; so does a reboot."""
    need("java")
    port = free_port()
    program.start("java", "-Xmx64m", SOURCES / "Counter.java", port)
    assert ask_anew(port, "x") == "1"
    (counters,) = Path("/tmp").glob(f"hsperfdata_*/{program.root}")
    before = counters.stat()
    program.ckpt("dump", "-t", program.root, "-D", program.place / "chain")
    until(lambda: reap([program.root]), "the JVM is gone")
    subprocess.run(["java", "-Xshare:auto", "-version"], check=True, capture_output=True)
    assert not counters.exists(), "then nothing is tried here"
    program.ckpt("restore", "-D", program.place / "chain", "--detach")
    assert ask_anew(port, "x") == "2"
    after = counters.stat()
    assert (after.st_mode, after.st_uid, after.st_size) == (before.st_mode, before.st_uid, before.st_size)


# ---------------------------------------------------------------- terminals


def test_tmux_with_bash_and_vim(program: Program) -> None:
    """A tree of terminals: a shell with job control in one window, vim in another."""
    need("tmux", "bash", "vim")
    tmux = ["tmux", "-S", str(program.place / "socket"), "-f", "/dev/null"]

    def do(*words: str) -> str:
        done = subprocess.run([*tmux, *words], capture_output=True, text=True, timeout=WAIT)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def shows(window: str, text: str) -> None:
        until(
            lambda: text in do("capture-pane", "-p", "-t", window),
            f"{text!r} in {do('capture-pane', '-p', '-t', window)}",
        )

    def in_front(name: str) -> None:
        """Until the shell's window belongs to that program: a ^Z or ^C before is nobody's."""
        command = ["display-message", "-p", "-t", "s:shell", "#{pane_current_command}"]
        until(lambda: do(*command).strip() == name, f"{name} is in front, not {do(*command)!r}")

    environment = {"PATH": os.environ["PATH"], "TERM": "xterm", "LC_ALL": "C.UTF-8", "HOME": str(program.place)}
    program.start(*tmux, "-D", env=environment)
    until(lambda: (program.place / "socket").exists(), "tmux listens")
    do("new-session", "-d", "-s", "s", "-n", "shell", "-x", "100", "-y", "30", "bash --norc --noprofile -i")
    do("new-window", "-t", "s:", "-n", "vim", f"vim -u NONE -n {program.place}/notes")
    do("send-keys", "-t", "s:shell", "sleep 1000 | cat & jobs; sleep 1001", "Enter")
    shows("s:shell", "Running")
    in_front("sleep")
    do("send-keys", "-t", "s:shell", "C-z")
    shows("s:shell", "Stopped")
    do("send-keys", "-t", "s:vim", "i")
    count = itertools.count(1)

    def load() -> None:
        n = next(count)
        do("send-keys", "-t", "s:shell", f"echo $((40 + {n})).", "Enter")
        shows("s:shell", f"{40 + n}.")
        do("send-keys", "-t", "s:vim", f"line {n}", "Enter")
        shows("s:vim", f"line {n}")

    load()
    program.through(load)
    do("send-keys", "-t", "s:shell", "jobs -l; fg 2", "Enter")
    in_front("sleep")
    shows("s:shell", "Stopped")
    do("send-keys", "-t", "s:shell", "C-c")
    do("send-keys", "-t", "s:shell", "echo over $?", "Enter")
    shows("s:shell", "over 130")
    do("send-keys", "-t", "s:vim", "C-o", ":wq", "Enter")  # not by Escape, which vim may take for the start of a key
    notes = program.place / "notes"
    until(lambda: notes.exists() and notes.read_text().endswith("\n"), "vim wrote")
    assert notes.read_text().split("\n")[:2] == ["line 1", "line 2"]


def test_sqlite_shell(program: Program) -> None:
    """It reads a FIFO and writes a file; a transaction is open across the dumps."""
    need("sqlite3", "bash")
    pipe, out = program.place / "pipe", program.place / "out"
    os.mkfifo(pipe)
    out.touch()
    program.start("bash", "-c", f"exec sqlite3 {program.place}/db <>{pipe} >{out} 2>&1")
    count = itertools.count(1)

    def ask(text: str) -> None:
        with pipe.open("w") as stream:
            stream.write(text + "\n")

    def load() -> None:
        n = next(count)
        ask(f"insert into t values ({n}); select 'rows', count(*) from t;")
        until(lambda: f"rows|{n}\n" in out.read_text(), f"{n} rows in {out.read_text()}")

    ask("create table t (n); begin;")
    load()
    program.through(load)
    ask("commit; select 'committed', count(*) from t;")
    rows = next(count) - 1
    until(lambda: f"committed|{rows}\n" in out.read_text(), "the commit")
