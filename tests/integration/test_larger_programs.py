"""More real programs, as test_programs has them: those that scripts/test does not install."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.programs import WAIT, Program, free_port, need, until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: restores under the old pids"),
]


def done(*command: object, env: dict[str, str] | None = None) -> str:
    """What a command prints, which must succeed."""
    words = [*map(str, command)]
    ran = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=WAIT, env=env)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def get(connection: http.client.HTTPConnection, path: str) -> bytes:
    connection.request("GET", path)
    answer = connection.getresponse()
    assert answer.status == 200
    return answer.read()


@contextlib.contextmanager
def kept_alive(port: int) -> Iterator[http.client.HTTPConnection]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT)

    def answers() -> bool:
        with contextlib.suppress(OSError):
            connection.connect()
            return True
        return False

    until(answers, f"port {port} answers")
    yield connection
    connection.close()


def serving(program: Program, port: int) -> None:
    """A page is got by a connection that stays, and by new ones."""
    with kept_alive(port) as connection:

        def load() -> None:
            with kept_alive(port) as fresh:
                assert [len(get(each, "/page")) for each in (connection, fresh)] == [6000, 6000]

        load()
        program.through(load)


def test_apache(program: Program) -> None:
    """The event model: processes with threads, a kept-alive connection."""
    need("apache2")
    modules, port = Path("/usr/lib/apache2/modules"), free_port()
    program.place.chmod(0o755)
    (program.place / "page").write_text("a page" * 1000)
    (program.place / "conf").write_text(
        f"ServerRoot {program.place}\nListen 127.0.0.1:{port}\nPidFile {program.place}/pid\nServerName here\n"
        f"DocumentRoot {program.place}\nErrorLog {program.place}/errors\nKeepAliveTimeout 600\n"
        f"LoadModule mpm_event_module {modules}/mod_mpm_event.so\nUser www-data\nGroup www-data\n"
        f"LoadModule authz_core_module {modules}/mod_authz_core.so\nMaxKeepAliveRequests 0\n"
    )
    for parent in program.place.parents[:2]:
        parent.chmod(0o755)
    program.options = ["--tcp-established"]
    program.start("apache2", "-f", program.place / "conf", "-DFOREGROUND")
    serving(program, port)


def test_haproxy(program: Program) -> None:
    """Four threads that check a server outside the tree, which answers what they pass on."""
    need("haproxy")
    port, behind = free_port(), free_port()
    (program.place / "page").write_text("a page" * 1000)
    (program.place / "conf").write_text(
        "global\n nbthread 4\n"
        "defaults\n mode http\n timeout client 600s\n timeout server 10s\n timeout connect 5s\n"
        f"frontend front\n bind 127.0.0.1:{port}\n default_backend back\n"
        f"backend back\n server one 127.0.0.1:{behind} check inter 200ms\n"
    )
    null = subprocess.DEVNULL
    command = ["python3", "-m", "http.server", str(behind), "--bind", "127.0.0.1", "-d", str(program.place)]
    with subprocess.Popen(command, stdin=null, stdout=null, stderr=null) as server:
        try:
            with kept_alive(behind):
                pass
            program.options = ["--tcp-established"]
            program.start("haproxy", "-W", "-f", program.place / "conf")
            serving(program, port)
        finally:
            server.kill()


def test_mariadb(program: Program) -> None:
    """Tables that grow; they are whole at the end."""
    need("mariadbd", "mariadb", "mariadb-install-db")
    data, socket = program.place / "data", program.place / "socket"
    made = ["--no-defaults", "--user=root", f"--datadir={data}", "--auth-root-authentication-method=normal"]
    subprocess.run(["mariadb-install-db", *made], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    # A ring of io_uring is refused by name.
    words = [f"--datadir={data}", f"--socket={socket}", "--user=root", "--skip-networking", "--innodb-use-native-aio=0"]
    program.start("mariadbd", "--no-defaults", *words)
    until(socket.exists, "it listens")
    client = ["mariadb", "--no-defaults", "-uroot", "-S", str(socket), "-N"]
    done(*client, "-e", "create database d; create table d.t (n int, s text) engine=innodb")
    count = itertools.count(1)

    def load() -> None:
        n = next(count)
        done(*client, "-e", f"insert into d.t values ({n}, repeat('x', 50000))")
        assert done(*client, "-e", "select count(*), sum(length(s)) from d.t").split() == [str(n), str(n * 50000)]

    load()
    program.through(load)
    assert done(*client, "-e", "check table d.t").split()[-1] == "OK"


def test_emacs(program: Program) -> None:
    """A daemon with a buffer; its clients evaluate."""
    need("emacs", "emacsclient")
    socket, count = program.place / "socket", itertools.count(1)
    quiet = ["--eval", "(setq native-comp-deferred-compilation nil)"]  # or compilers come and go beside it
    program.start("emacs", "-Q", *quiet, f"--fg-daemon={socket}", env={**os.environ, "HOME": str(program.place)})
    until(socket.exists, "it listens")

    def load() -> None:
        n = next(count)
        text = '(with-current-buffer (get-buffer-create "b") (insert "x") (buffer-size))'
        assert done("emacsclient", "-s", socket, "-e", text).strip() == str(n)

    load()
    program.through(load)


def test_screen(program: Program) -> None:
    """A shell in a terminal, which is told what to do through a socket."""
    need("screen", "bash")
    where = program.place / "screens"
    where.mkdir(mode=0o700)
    environment = {"PATH": os.environ["PATH"], "TERM": "xterm", "SCREENDIR": str(where), "HOME": str(program.place)}
    program.start("screen", "-D", "-m", "-S", "s", "bash", "--norc", "--noprofile", env=environment)
    until(lambda: any(where.iterdir()), "it listens")
    count = itertools.count(1)

    def load() -> None:
        n = next(count)
        said = program.place / f"said-{n}"
        done("screen", "-S", "s", "-X", "stuff", f"let n+=7; echo \\$n >{said}\n", env=environment)
        until(lambda: said.exists() and said.read_text() == f"{7 * n}\n", f"{said} is right")

    load()
    program.through(load)
