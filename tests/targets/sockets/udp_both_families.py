"""IPv6 sockets with datagrams that wait, of both families: whoever comes afterwards is let in, too."""

import socket

from target_api import checkpoint, run

V6ONLY, RECVPKTINFO, PKTINFO = 26, 49, 50
LOOPBACK = bytes(15) + b"\1"


def box(host, *, only=0, reuse=0):
    made = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    made.setsockopt(socket.IPPROTO_IPV6, V6ONLY, only)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, reuse)
    made.setsockopt(socket.IPPROTO_IPV6, RECVPKTINFO, 1)
    made.bind((host, 0))
    made.settimeout(20)
    return made


def send(host, port, data):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as one:
        one.bind((host, 0))
        one.sendto(data, (host, port))


def on_devices():
    """Two sockets on one port that do not meet, for each has a device of its own; that of the first may be down."""
    others = [name for _, name in socket.if_nameindex() if name != "lo"]
    first, second = (socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) for _ in range(2))
    first.bind(("::", 0))
    send("::1", first.getsockname()[1], b"first")
    for made, device in ((first, (others or ["lo"])[0]), (second, "lo")):
        made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
    if others:
        second.bind(first.getsockname())
        send("::1", first.getsockname()[1], b"second")
        return first, second
    return (first,)


def main():
    waiting = {name: box("::") for name in ("127.0.0.1", "127.0.0.2", "::1")}
    one, only, shared = box("::1"), box("::", only=1), box("::", reuse=1)
    for host, made in waiting.items():
        for data in (b"first", b"", b"third" * 300):
            send(host, made.getsockname()[1], data)
    for made in (one, only, shared):
        send("::1", made.getsockname()[1], b"first")
    boxes = [*waiting.values(), one, only, shared]
    apart = on_devices()
    boxes += apart
    names = [made.getsockname() for made in boxes]
    if checkpoint():
        waiting["::1"].recv(1)
    assert names == [made.getsockname() for made in boxes]
    assert [made.recv(99) for made in apart] == [b"first", b"second"][: len(apart)]
    for host, made in waiting.items():
        for data in (b"first", b"", b"third" * 300):
            got, control, _, source = made.recvmsg(4000, 500)
            assert got == data and source[0].removeprefix("::ffff:") == host
            to = {kind: value[:16] for _, kind, value in control}[PKTINFO]
            assert to == (LOOPBACK if ":" in host else b"\0" * 10 + b"\xff\xff" + socket.inet_aton(host)), to
        for other in waiting:
            send(other, made.getsockname()[1], b"later")
            assert made.recv(99) == b"later", (host, other)
    for made in (one, only, shared):
        assert made.recv(99) == b"first"
        send("::1", made.getsockname()[1], b"later")
        assert made.recv(99) == b"later"


run(main)
