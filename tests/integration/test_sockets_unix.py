"""Unix sockets: a stopped child is collected and killed, its sockets are rebuilt and tried in the test process."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from ckpt.errors import RestoreError
from tests.support.sockets import Restored, collect, restored, socket_file, target

pytestmark = pytest.mark.root

PRELUDE = """
import os, socket, sys
U, S, D, Q = socket.AF_UNIX, socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET
kept = []
def at(number, sock):
    os.dup2(sock.fileno(), number); kept.append(sock)
def unix(kind=S):
    return socket.socket(U, kind)
"""


def sock(files: Restored, number: int) -> socket.socket:
    made = socket.socket(fileno=os.dup(files[number]))
    made.settimeout(30)
    return made


def roundtrip(source: str, *args: str, **options: bool):  # type: ignore[no-untyped-def]
    with target(PRELUDE + source, *args) as child:
        context, tables = collect(child.pid, **options)
    assert not context.refusals, [str(refusal) for refusal in context.refusals]
    return restored(context, tables)


def refusals(source: str, *args: str, **options: bool) -> list[str]:
    with target(PRELUDE + source, *args) as child:
        context, _tables = collect(child.pid, **options)
        context.stack.close()
    return [str(refusal) for refusal in context.refusals]


def test_a_pair_keeps_data_both_ways_and_its_half_close() -> None:
    source = """
a, b = socket.socketpair(); at(100, a); at(101, b)
a.send(b"to b"); b.send(b"to a"); a.shutdown(socket.SHUT_WR)
"""
    with roundtrip(source) as files, sock(files, 100) as a, sock(files, 101) as b:
        assert b.recv(100) == b"to b"
        assert b.recv(100) == b""
        b.send(b", more")
        assert a.recv(4) == b"to a"
        assert a.recv(100) == b", more"
        with pytest.raises(BrokenPipeError):
            a.send(b"x")


def test_a_listener_keeps_name_mode_and_backlog(tmp_path: Path) -> None:
    source = """
listener = unix(); listener.bind(sys.argv[1]); listener.listen(3); os.chmod(sys.argv[1], 0o640); at(100, listener)
abstract = unix(); abstract.bind(b"\\0ckpt-test-%d" % os.getpid()); abstract.listen(1); at(101, abstract)
auto = unix(); auto.bind(b""); at(102, auto); open(sys.argv[1] + ".auto", "wb").write(auto.getsockname())
"""
    path = tmp_path / "listener"
    with roundtrip(source, str(path)) as files, sock(files, 100) as listener, sock(files, 101) as abstract:
        assert socket_file(path) == (0o640, 0, 0)
        assert listener.getsockname() == str(path)
        for one, name in ((listener, str(path)), (abstract, abstract.getsockname())):
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(name)
                server, _ = one.accept()
                with server:
                    client.send(b"hello")
                    assert server.recv(10) == b"hello"
        with sock(files, 102) as auto:
            assert auto.getsockname() == Path(f"{path}.auto").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["listener", "listener.auto"]


def test_accepted_connections_have_the_listeners_name(tmp_path: Path) -> None:
    source = """
listener = unix(); listener.bind(sys.argv[1]); listener.listen(5); at(100, listener)
for n in range(3):
    client = unix()
    if n: client.bind(sys.argv[1] + f".{n}")
    client.connect(sys.argv[1]); server, _ = listener.accept()
    at(110 + n, client); at(120 + n, server); client.send(b"%d" % n)
waiting = unix(); waiting.connect(sys.argv[1]); at(130, waiting)
"""
    path = str(tmp_path / "l")
    with roundtrip(source, path) as files:
        for n in range(3):
            with sock(files, 110 + n) as client, sock(files, 120 + n) as server:
                assert client.getpeername() == server.getsockname() == path
                assert client.getsockname() == server.getpeername() == (f"{path}.{n}" if n else "")
                assert server.recv(10) == b"%d" % n
        with sock(files, 100) as listener, sock(files, 130) as waiting:
            server, _ = listener.accept()
            with server:
                waiting.send(b"late")
                assert server.recv(10) == b"late"


def test_accepted_connections_outlive_their_listener() -> None:
    source = """
name = b"\\0ckpt-gone-%d" % os.getpid()
listener = unix(); listener.bind(name); listener.listen(5)
for n in range(2):
    client = unix(); client.connect(name); server, _ = listener.accept()
    at(100 + n, client); at(110 + n, server)
listener.close()
"""
    with roundtrip(source) as files, sock(files, 101) as client, sock(files, 111) as server:
        client.send(b"x")
        assert server.recv(1) == b"x"
        assert server.getsockname() == client.getpeername()
        with socket.socket(socket.AF_UNIX) as late, pytest.raises(ConnectionRefusedError):
            late.connect(server.getsockname())


def test_datagrams_keep_boundaries_and_senders(tmp_path: Path) -> None:
    source = """
os.chdir(sys.argv[1])
receiver = unix(D); receiver.bind("relative"); at(100, receiver)
named = unix(D); named.bind(sys.argv[1] + "/named"); named.connect("relative"); at(101, named)
named.send(b"one"); named.send(b""); unix(D).sendto(b"two", "relative")
left, right = socket.socketpair(U, D); left.send(b"a"); left.send(b"bc"); at(102, left); at(103, right)
"""
    with roundtrip(source, str(tmp_path)) as files, sock(files, 100) as receiver, sock(files, 101) as named:
        name = str(tmp_path / "named")
        assert [receiver.recvfrom(10) for _ in range(3)] == [(b"one", name), (b"", name), (b"two", None)]
        assert receiver.getsockname() == named.getpeername() == "relative"
        named.send(b"three")
        assert receiver.recv(10) == b"three"
        with sock(files, 102) as left, sock(files, 103) as right:
            assert [right.recv(10), right.recv(10)] == [b"a", b"bc"]
            right.send(b"back")
            assert left.recv(10) == b"back"


def test_seqpacket_keeps_boundaries_and_the_end() -> None:
    source = """
left, right = socket.socketpair(U, Q); at(100, left); at(101, right)
left.send(b"m1"); left.send(b""); left.send(b"m3" * 40000)
other, lonely = socket.socketpair(U, Q); other.send(b"last"); other.close(); at(102, lonely)
"""
    with roundtrip(source) as files, sock(files, 101) as right, sock(files, 102) as lonely:
        assert [len(right.recv(100000)) for _ in range(3)] == [2, 0, 80000]
        assert [lonely.recv(10), lonely.recv(10)] == [b"last", b""]


def test_descriptors_in_flight_arrive_where_they_were_sent() -> None:
    source = """
left, right = socket.socketpair(); at(100, left); at(101, right)
reader, writer = os.pipe(); os.write(writer, b"in the pipe"); os.dup2(writer, 110)
left.send(b"before"); socket.send_fds(left, [b"F"], [reader]); left.send(b"after"); os.close(reader)
inner, outer = socket.socketpair(); inner.send(b"nested")
socket.send_fds(left, [b"G"], [outer.fileno()]); outer.close()
at(102, inner)
"""
    with roundtrip(source) as files, sock(files, 101) as right:
        assert right.recv(6) == b"before"
        data, (reader,), _flags, _name = socket.recv_fds(right, 100, 4)
        assert (data, os.read(reader, 100)) == (b"F", b"in the pipe")
        os.close(reader)
        assert right.recv(5) == b"after"
        data, (outer,), _flags, _name = socket.recv_fds(right, 100, 4)
        with socket.socket(fileno=outer) as end:
            assert (data, end.recv(100)) == (b"G", b"nested")


def test_a_closed_peer_stays_closed() -> None:
    source = """
gone, left = socket.socketpair(); gone.send(b"bye"); gone.close(); at(100, left)
"""
    with roundtrip(source) as files, sock(files, 100) as left:
        assert [left.recv(10), left.recv(10)] == [b"bye", b""]
        with pytest.raises(BrokenPipeError):
            left.send(b"x")


def test_options_and_the_peek_offset_come_back() -> None:
    source = """
a, b = socket.socketpair(); at(100, a); at(101, b)
a.setsockopt(1, socket.SO_PASSCRED, 1); a.setsockopt(1, socket.SO_SNDBUF, 20000); a.settimeout(None)
a.setsockopt(1, 42, 2); b.send(b"peeked")
"""
    with target(PRELUDE + source) as child:
        context, tables = collect(child.pid)
        again, _ = collect(child.pid)
        again.stack.close()
    values = [[r.payload for r in c.records if r.kind == "unix-socket"] for c in (context, again)]
    assert values[0] == values[1], "collecting changed the target"
    with restored(context, tables) as files, sock(files, 100) as a, sock(files, 101) as b:
        assert a.getsockopt(1, socket.SO_PASSCRED) == 1
        assert a.getsockopt(1, socket.SO_SNDBUF) == 40000
        assert a.getsockopt(1, 42) == 2
        assert b.getsockopt(1, 42) == -1
        assert a.recv(10, socket.MSG_PEEK) == b"eked"


def test_a_peer_outside_the_tree_is_refused_by_name() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        source = "from socket import socket as s\nat(100, s(fileno=os.dup(int(sys.argv[1]))))"
        import subprocess  # the child inherits one end
        import sys

        code = PRELUDE + source + "\nos.kill(os.getpid(), 19)"
        null = subprocess.DEVNULL
        arguments = [sys.executable, "-c", code, str(theirs.fileno())]
        child = subprocess.Popen(arguments, pass_fds=[theirs.fileno()], stdin=null, stdout=null, stderr=null)
        try:
            os.waitpid(child.pid, os.WUNTRACED)
            context, _ = collect(child.pid)
            context.stack.close()
            assert any("outside the tree" in str(refusal) for refusal in context.refusals)
            ours.send(b"unread")
            context, tables = collect(child.pid, ext_unix=True)
            assert not context.refusals
        finally:
            child.kill()
            child.wait()
    with restored(context, tables) as files, sock(files, 100) as end:
        assert [end.recv(10), end.recv(10)] == [b"unread", b""]


@pytest.mark.parametrize("there", [True, False])
def test_a_log_socket_is_connected_to_again(tmp_path: Path, there: bool) -> None:
    server = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    server.bind(str(tmp_path / "log"))
    source = 'one = unix(D); one.connect(sys.argv[1]); one.send(b"before"); at(100, one)'
    with server:
        with target(PRELUDE + source, str(tmp_path / "log")) as child:
            context, tables = collect(child.pid)
            assert not context.refusals
        if there:
            with restored(context, tables) as files, sock(files, 100) as one:
                one.send(b"after")
                assert [server.recv(10), server.recv(10)] == [b"before", b"after"]
            return
    (tmp_path / "log").unlink()
    with restored(context, tables) as files, sock(files, 100) as one:
        with pytest.raises(ConnectionRefusedError):
            one.send(b"after")
        assert not list(tmp_path.iterdir())


def test_a_client_of_a_server_outside_is_refused_or_disconnected(tmp_path: Path) -> None:
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(tmp_path / "server"))
    server.listen()
    source = (
        "one = unix(); one.connect(sys.argv[1]); at(100, one); two = unix(); two.connect(sys.argv[1]); at(101, two)"
    )
    with server, target(PRELUDE + source, str(tmp_path / "server")) as child:
        connection, _ = server.accept()
        with connection:
            connection.send(b"unread")
            context, _tables = collect(child.pid)
            context.stack.close()
            told = [str(refusal) for refusal in context.refusals]
            assert len(told) == 2 and "outside the tree" in told[0] and "outside the tree" in told[1]
            context, tables = collect(child.pid, ext_unix=True)
            assert not context.refusals
    with restored(context, tables) as files, sock(files, 100) as one, sock(files, 101) as two:
        assert [one.recv(10), one.recv(10)] == [b"unread", b""]
        assert two.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE) == socket.SOCK_STREAM


def test_a_taken_abstract_name_is_a_restore_error() -> None:
    source = """
one = unix(); one.bind(b"\\0ckpt-taken-%d" % os.getpid()); one.listen(1); at(100, one)
"""
    with target(PRELUDE + source) as child:
        context, tables = collect(child.pid)
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(f"\0ckpt-taken-{child.pid}")
        with pytest.raises(RestoreError, match="@ckpt-taken"), restored(context, tables):
            pass


def test_senders_are_not_taken_for_others_of_the_same_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = """
os.chdir(sys.argv[1])
for number, kind in ((100, "here"), (101, "gone")):
    a = unix(D); a.bind("to-" + kind); at(number, a)
    b = unix(D); b.bind(kind); b.sendto(b"from " + kind.encode(), "to-" + kind)
    if kind == "here":
        at(102, b)
    else:
        b.close()
"""
    there = tmp_path / "there"
    there.mkdir()
    monkeypatch.chdir(tmp_path)
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as two,
    ):
        one.bind("here")  # relative names that sockets of the tree have elsewhere
        two.bind("gone")
        with roundtrip(source, str(there)) as files, sock(files, 100) as here, sock(files, 101) as gone:
            assert here.recvfrom(20) == (b"from here", "here")
            assert gone.recvfrom(20) == (b"from gone", "gone")
