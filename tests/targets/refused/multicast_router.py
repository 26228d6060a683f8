"""A raw socket that is the multicast router of its network (MRT_INIT), beside one that is not."""

import errno
import socket

from target_api import Skip, checkpoint, run

MRT_INIT = 200
IP_ROUTER_ALERT = 5


def main():
    plain = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_IGMP)
    router = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_IGMP)
    try:
        router.setsockopt(socket.IPPROTO_IP, MRT_INIT, 1)
    except OSError as error:
        raise Skip(f"no multicast routing: {error}") from None
    checkpoint()
    assert plain.getsockopt(socket.IPPROTO_IP, IP_ROUTER_ALERT) == 0
    try:
        plain.setsockopt(socket.IPPROTO_IP, MRT_INIT, 1)
    except OSError as error:
        assert error.errno == errno.EADDRINUSE, error
        return
    raise AssertionError("the router is none any more")


run(main)
