"""TCP and UDP: a stopped child is collected and killed, its sockets are rebuilt and tried in the test process."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ckpt.kernel.descriptors import steal_descriptor
from ckpt.kernel.tcp_holder import address
from ckpt.state.files.tcp import finish_connections, keep_connections, release_connections
from tests.support.sockets import Restored, collect, restored, target

pytestmark = pytest.mark.root

PRELUDE = """
import os, socket, struct, sys
kept = []
def at(number, sock):
    os.dup2(sock.fileno(), number); kept.append(sock)
def listen(host="127.0.0.1", family=socket.AF_INET, port=0):
    made = socket.socket(family); made.setsockopt(1, 2, 1); made.bind((host, port)); made.listen(5); return made
def pair(host="127.0.0.1", family=socket.AF_INET):
    with listen(host, family) as listener:
        client = socket.create_connection(listener.getsockname()[:2]); server, _ = listener.accept()
    return client, server
def settle(sock):  # everything sent has been acknowledged
    import fcntl, time
    while struct.unpack("i", fcntl.ioctl(sock.fileno(), 0x5411, b"\\0" * 4))[0]: time.sleep(0.001)
"""


def sock(files: Restored, number: int) -> socket.socket:
    made = socket.socket(fileno=os.dup(files[number]))
    made.settimeout(30)
    return made


def killed(child: subprocess.Popen[bytes]) -> None:
    child.kill()
    child.wait()


def test_listeners_keep_their_options() -> None:
    source = """
one = listen(); at(100, one)
one.setsockopt(6, socket.TCP_DEFER_ACCEPT, 0); one.setsockopt(6, 23, 4); one.setsockopt(6, socket.TCP_NODELAY, 1)
one.setsockopt(1, socket.SO_KEEPALIVE, 1); one.setsockopt(6, socket.TCP_KEEPIDLE, 77)
one.setsockopt(1, socket.SO_LINGER, struct.pack("ii", 1, 5))
one.setsockopt(1, socket.SO_RCVTIMEO, struct.pack("qq", 7, 0))
two = socket.socket(socket.AF_INET6); two.setsockopt(41, socket.IPV6_V6ONLY, 1); two.bind(("::1", 0)); two.listen(3)
at(101, two)
bound = socket.socket(); bound.bind(("127.0.0.1", 0)); at(102, bound)
"""
    with target(PRELUDE + source) as child:
        context, tables = collect(child.pid)
    assert not context.refusals
    with restored(context, tables) as files, sock(files, 100) as one, sock(files, 101) as two:
        assert one.getsockopt(6, socket.TCP_NODELAY) == 1
        assert one.getsockopt(6, 23) == 4
        assert one.getsockopt(6, socket.TCP_KEEPIDLE) == 77
        assert one.getsockopt(1, socket.SO_REUSEADDR) == 1
        assert two.getsockopt(41, socket.IPV6_V6ONLY) == 1
        for listener in (one, two):
            listener.setblocking(True)
            with socket.create_connection(listener.getsockname()[:2]) as client:
                server, _ = listener.accept()
                with server:
                    client.sendall(b"x")
                    assert server.recv(1) == b"x"
        with sock(files, 102) as bound:
            assert bound.getsockname()[1] != 0


@pytest.mark.parametrize(("host", "family"), [("127.0.0.1", "AF_INET"), ("::1", "AF_INET6")])
def test_a_connection_inside_the_tree(host: str, family: str) -> None:
    source = f"""
client, server = pair({host!r}, socket.{family}); at(100, client); at(101, server)
server.setsockopt(6, socket.TCP_NODELAY, 1)
client.sendall(b"unread"); server.sendall(b"answer" * 1000); settle(client); settle(server)
"""
    with target(PRELUDE + source) as child:
        context, tables = collect(child.pid)
        assert not context.refusals, [str(r) for r in context.refusals]
        killed(child)
        keep_connections(context)
    with restored(context, tables) as files, sock(files, 100) as client, sock(files, 101) as server:
        assert server.recv(100) == b"unread"
        assert _all(client, 6000) == b"answer" * 1000
        for one, other in ((client, server), (server, client)):
            one.sendall(b"more" * 50000)
            assert _all(other, 200000) == b"more" * 50000
        assert server.getsockopt(6, socket.TCP_NODELAY) == 1
        client.shutdown(socket.SHUT_WR)
        assert server.recv(10) == b""


def _all(one: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = one.recv(size - len(data))
        assert part, f"the connection ended after {len(data)} bytes"
        data += part
    return data


def test_unsent_data_and_a_half_closed_connection(tmp_path: Path) -> None:
    source = """
client, server = pair(); at(100, client); at(101, server)
client.setblocking(False); sent = 0
try:
    while True: sent += client.send(b"z" * 65536)
except BlockingIOError: pass
with open(sys.argv[1], "w") as out: out.write(str(sent))
half, rest = pair(); at(102, half); at(103, rest); half.sendall(b"end"); half.shutdown(socket.SHUT_WR); settle(half)
"""
    with target(PRELUDE + source, str(tmp_path / "sent")) as child:
        context, tables = collect(child.pid)
        assert not context.refusals, [str(r) for r in context.refusals]
        killed(child)
        keep_connections(context)
    sent = int((tmp_path / "sent").read_text())
    with restored(context, tables) as files:
        with sock(files, 101) as server, sock(files, 100) as client:
            assert _all(server, sent) == b"z" * sent
            client.sendall(b"on")
            assert _all(server, 2) == b"on"
        with sock(files, 102) as half, sock(files, 103) as rest:
            assert [rest.recv(10), rest.recv(10)] == [b"end", b""]
            rest.sendall(b"still")
            assert half.recv(10) == b"still"


@contextlib.contextmanager
def outside(source: str = "") -> Iterator[tuple[socket.socket, subprocess.Popen[bytes]]]:
    """A stopped child with a connection, as its descriptor 100, to a socket of this process."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        connect = f"out = socket.create_connection(('127.0.0.1', {listener.getsockname()[1]})); at(100, out)\n"
        with target(PRELUDE + connect + source) as child:
            peer, _ = listener.accept()
            peer.settimeout(30)
            with peer:
                yield peer, child


def test_an_outside_connection_is_refused_and_unharmed() -> None:
    with outside("import threading") as (peer, child):
        context, _ = collect(child.pid)
        context.stack.close()
        assert any(r.hint and "--tcp-established" in r.hint for r in context.refusals)
        peer.sendall(b"ping")
        number = _steal(child.pid)
        with socket.socket(fileno=number) as theirs:
            theirs.settimeout(30)
            assert theirs.recv(10) == b"ping"
            assert theirs.getsockopt(1, 26, 0) in (b"", 0)  # no filter is left behind
            theirs.sendall(b"pong")
        assert peer.recv(10) == b"pong"


def test_a_connection_that_nobody_has_accepted_is_somebodys() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        connect = f"out = socket.create_connection(('127.0.0.1', {listener.getsockname()[1]})); at(100, out)\n"
        with target(PRELUDE + connect) as child:
            context, _ = collect(child.pid)
            context.stack.close()
            assert any(r.hint and "--tcp-established" in r.hint for r in context.refusals)
            peer, _ = listener.accept()
            peer.close()


def test_an_outside_connection_is_closed_on_demand() -> None:
    with outside("out.sendall(b'before'); settle(out)") as (peer, child):
        peer.sendall(b"unread")
        _acknowledged(peer)
        context, tables = collect(child.pid, tcp_close=True)
        assert not context.refusals
        killed(child)
        keep_connections(context)
        assert peer.recv(10) == b"before"
        with pytest.raises(ConnectionResetError):  # what it sent was not read
            peer.recv(10)
        with restored(context, tables) as files, sock(files, 100) as out:
            assert out.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == 7  # TCP_CLOSE
            assert out.recv(10) == b""
            with pytest.raises(BrokenPipeError):
                out.send(b"more")
            poller = select.poll()
            poller.register(out, 0)
            assert poller.poll(0) == [(out.fileno(), select.POLLHUP)]


def test_a_connection_to_be_closed_goes_on_in_a_task_that_does() -> None:
    with outside() as (peer, child):
        context, _ = collect(child.pid, tcp_close=True)
        context.stack.close()
        with socket.socket(fileno=_steal(child.pid)) as theirs:
            peer.sendall(b"ping")
            theirs.settimeout(30)
            assert theirs.recv(10) == b"ping"
            theirs.sendall(b"pong")
        assert peer.recv(10) == b"pong"


def test_connections_inside_the_tree_are_not_closed() -> None:
    source = "l = socket.create_server(('127.0.0.1', 0)); at(101, l)\n"
    source += "a = socket.create_connection(l.getsockname()); b = l.accept()[0]; at(102, a); at(103, b)"
    with outside(source) as (_peer, child):
        with target_listener(child.pid) as name:
            waiting = socket.create_connection(name)  # dropped: its client is outside
            context, tables = collect(child.pid, tcp_close=True)
            assert not context.refusals
            killed(child)
            keep_connections(context)
            waiting.close()
        with restored(context, tables) as files, sock(files, 102) as one, sock(files, 103) as other:
            one.sendall(b"hello")
            assert _all(other, 5) == b"hello"


@contextlib.contextmanager
def target_listener(pid: int) -> Iterator[tuple[str, int]]:
    """The address of the listener that a stopped child has as descriptor 101."""
    with socket.socket(fileno=steal_descriptor(pid, 101)) as listener:
        yield listener.getsockname()


def _steal(pid: int) -> int:
    from ckpt.kernel.descriptors import steal_descriptor

    return steal_descriptor(pid, 100)


def test_an_outside_connection_survives_the_kill() -> None:
    with outside("out.sendall(b'before'); settle(out)") as (peer, child):
        context, tables = collect(child.pid, tcp_established=True)
        assert not context.refusals
        killed(child)
        keep_connections(context)
        peer.sendall(b"while gone")  # nobody acknowledges this; the kernel sends it again
        with restored(context, tables) as files, sock(files, 100) as out:
            finish_connections(files.context)
            assert peer.recv(10) == b"before"
            assert _all(out, 10) == b"while gone"
            out.sendall(b"back")
            assert _all(peer, 4) == b"back"


def test_an_outside_connection_is_made_again_without_its_holder() -> None:
    with outside("out.sendall(b'before'); settle(out)") as (peer, child):
        peer.sendall(b"unread")
        _acknowledged(peer)
        context, tables = collect(child.pid, tcp_established=True)
        payload = next(r.payload for r in context.records if getattr(r, "kind", "") == "inet-socket")
        killed(child)
        keep_connections(context)
        _end_holder(payload.connection.holder)
        with restored(context, tables) as files, sock(files, 100) as out:
            assert peer.recv(10) == b"before"
            assert _all(out, 6) == b"unread"
            out.sendall(b"back")
            assert _all(peer, 4) == b"back"
            peer.shutdown(socket.SHUT_WR)
            assert out.recv(10) == b""


def test_a_peers_fin_is_not_forgotten() -> None:
    with outside() as (peer, child):
        peer.sendall(b"last")
        peer.shutdown(socket.SHUT_WR)
        _wait_close_wait(child.pid)
        context, tables = collect(child.pid, tcp_established=True)
        payload = next(r.payload for r in context.records if getattr(r, "kind", "") == "inet-socket")
        killed(child)
        keep_connections(context)
        _end_holder(payload.connection.holder)
        with restored(context, tables) as files, sock(files, 100) as out:
            assert [out.recv(10), out.recv(10)] == [b"last", b""]
            out.sendall(b"answer")
            assert _all(peer, 6) == b"answer"


def _acknowledged(peer: socket.socket) -> None:
    """Until all that was sent has arrived: a loaded machine brings it later."""
    deadline = time.monotonic() + 60
    while struct.unpack("i", fcntl.ioctl(peer, 0x5411, b"\0" * 4))[0]:  # SIOCOUTQ
        assert time.monotonic() < deadline, "it has not arrived"
        time.sleep(0.001)


def _wait_close_wait(pid: int) -> None:
    with socket.socket(fileno=_steal(pid)) as theirs:
        deadline = time.monotonic() + 60
        while theirs.getsockopt(6, 11, 1) != b"\x08":
            assert time.monotonic() < deadline
            time.sleep(0.002)


def _end_holder(token: str) -> None:
    """Tell a holder to forget its sockets, which are in repair mode: their peers hear nothing."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as link:
        link.settimeout(30)
        link.connect(address(token))
        link.send(b"take")
        fds: list[int] = []
        while True:
            data, got, _flags, _name = socket.recv_fds(link, 65536, 1)
            fds += got
            if data == b"ok":
                break
        for fd in fds:
            os.close(fd)
        link.send(b"done")
        assert link.recv(10) == b"ok"


def test_connections_work_again_when_ckpt_dies() -> None:
    with outside() as (peer, child):
        ckpt = os.fork()
        if not ckpt:
            with contextlib.suppress(BaseException):
                collect(child.pid, tcp_established=True)
                os.kill(os.getpid(), signal.SIGKILL)
            os._exit(1)
        _, status = os.waitpid(ckpt, 0)
        assert os.WIFSIGNALED(status)
        peer.sendall(b"hello")
        with socket.socket(fileno=_steal(child.pid)) as theirs:
            theirs.settimeout(30)
            assert _all(theirs, 5) == b"hello"
            deadline = time.monotonic() + 60
            while True:  # until the guard has let it go, sends are refused
                try:
                    theirs.sendall(b"world")
                    break
                except PermissionError:
                    assert time.monotonic() < deadline
                    time.sleep(0.01)
        assert _all(peer, 5) == b"world"


def test_release_puts_reuseaddr_back() -> None:
    with outside("out.setsockopt(1, 2, 1)") as (_peer, child):
        context, _ = collect(child.pid, tcp_established=True)
        release_connections(context)
        with socket.socket(fileno=_steal(child.pid)) as theirs:
            assert theirs.getsockopt(1, socket.SO_REUSEADDR) == 1
        context.stack.close()


def test_udp_keeps_peers_and_unread_datagrams() -> None:
    source = """
one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); one.bind(("0.0.0.0", 0)); at(100, one)
two = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); two.connect(("127.0.0.1", one.getsockname()[1])); at(101, two)
two.send(b"a" * 30000); two.send(b""); two.send(b"b")
six = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); six.bind(("::1", 0)); six.sendto(b"self", six.getsockname())
at(102, six)
import select
for receiver in (one, six): select.select([receiver], [], [])  # what was sent first is there first
group = socket.inet_aton("224.9.9.9") + socket.inet_aton("127.0.0.1")
two.setsockopt(0, socket.IP_ADD_MEMBERSHIP, group)
"""
    with target(PRELUDE + source) as child:
        context, tables = collect(child.pid)
    assert not context.refusals, [str(r) for r in context.refusals]
    with restored(context, tables) as files, sock(files, 100) as one, sock(files, 101) as two:
        name = two.getsockname()
        assert [one.recvfrom(40000) for _ in range(3)] == [(b"a" * 30000, name), (b"", name), (b"b", name)]
        one.sendto(b"back", name)
        assert two.recv(10) == b"back"
        assert two.getpeername()[1] == one.getsockname()[1]
        group = socket.inet_aton("224.9.9.9") + socket.inet_aton("127.0.0.1")
        two.setsockopt(0, socket.IP_DROP_MEMBERSHIP, group)  # fails unless it is a member
        with sock(files, 102) as six:
            assert six.recvfrom(10) == (b"self", six.getsockname())


def test_connections_from_outside_that_wait_for_accept_are_refused() -> None:
    source = "one = listen(); at(100, one)"
    with target(PRELUDE + source) as child:
        fd = sockets_of(child.pid)
        with socket.create_connection(fd.getsockname()), fd:
            assert select.select([fd], [], [], 30)[0], "nobody waits to be accepted"
            context, _ = collect(child.pid)
            context.stack.close()
    assert any("from outside the tree" in str(refusal) for refusal in context.refusals)


def sockets_of(pid: int) -> socket.socket:
    return socket.socket(fileno=steal_descriptor(pid, 100))
