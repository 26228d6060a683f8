"""Membership of multicast groups, with sources, of both families; loop, interface and scope; received after."""

import socket
import struct

from target_api import checkpoint, run

I, J = socket.IPPROTO_IP, socket.IPPROTO_IPV6  # noqa: E741


def main():
    lo = socket.if_nametoindex("lo")
    box = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    box.bind(("", 0))
    mreqn = socket.inet_aton("239.1.2.3") + socket.inet_aton("127.0.0.1") + struct.pack("i", lo)
    box.setsockopt(I, socket.IP_ADD_MEMBERSHIP, mreqn)
    source = socket.inet_aton("239.1.2.4") + socket.inet_aton("127.0.0.1") + socket.inet_aton("127.0.0.1")
    box.setsockopt(I, 39, source)  # IP_ADD_SOURCE_MEMBERSHIP
    box.setsockopt(I, socket.IP_MULTICAST_TTL, 3)
    box.setsockopt(I, socket.IP_MULTICAST_IF, struct.pack("4s4si", b"", socket.inet_aton("127.0.0.1"), lo))
    box.setsockopt(I, 49, 0)  # IP_MULTICAST_ALL
    six = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    six.bind(("::", 0))
    six.setsockopt(J, socket.IPV6_JOIN_GROUP, socket.inet_pton(socket.AF_INET6, "ff01::77") + struct.pack("i", lo))
    six.setsockopt(J, socket.IPV6_MULTICAST_IF, lo)
    six.setsockopt(J, socket.IPV6_MULTICAST_HOPS, 4)
    if checkpoint():
        box.setsockopt(I, socket.IP_DROP_MEMBERSHIP, mreqn)
    assert box.getsockopt(I, socket.IP_MULTICAST_TTL) == 3 and box.getsockopt(I, 49) == 0
    assert six.getsockopt(J, socket.IPV6_MULTICAST_HOPS) == 4 and six.getsockopt(J, socket.IPV6_MULTICAST_IF) == lo
    box.settimeout(20)
    for group in ("239.1.2.3", "239.1.2.4"):
        box.sendto(group.encode(), (group, box.getsockname()[1]))
        assert box.recv(100) == group.encode()
    # Only a member can leave.
    six.setsockopt(J, socket.IPV6_LEAVE_GROUP, socket.inet_pton(socket.AF_INET6, "ff01::77") + struct.pack("i", lo))
    box.setsockopt(I, socket.IP_DROP_MEMBERSHIP, mreqn)


run(main)
