"""Packet rings of every version, mapped: what waits in them stays, and the kernel goes on where it was."""

import os
import socket
import struct
import time

from target_api import Skip, checkpoint, mmap, peek, poke, run

LEVEL, RX, VERSION, TX = 263, 5, 10, 13
BLOCK, FRAME = 8192, 2048
# For each version: offsets of the data of a frame to send, of its length, of its status.
SEND = ((32, 8, 0), (32, 4, 0), (48, 16, 20))


class Ring:
    """One socket with a ring to receive into and one to send from."""

    def __init__(self, version):
        self.version, self.protocol = version, 0xB000 + os.getpid() % 0x400 * 4 + version
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self.socket.setsockopt(LEVEL, VERSION, version)
        more = struct.pack("III", 30, 0, 0) if version == 2 else b""  # tp_retire_blk_tov: ms
        self.socket.setsockopt(LEVEL, RX, struct.pack("IIII", BLOCK, 4, FRAME, 16) + more)
        self.received = 0
        if version < 2:
            self.socket.setsockopt(LEVEL, TX, struct.pack("IIII", BLOCK, 1, FRAME, 4))
        self.size = 5 * BLOCK if version < 2 else 4 * BLOCK
        self.area = mmap(self.size, 3, 1, self.socket.fileno())
        self.socket.bind(("lo", self.protocol))
        self.sent = 0

    def word(self, at):
        return struct.unpack("I", peek(self.area + at, 4))[0]

    def wait(self, at):
        end = time.monotonic() + 60
        while not self.word(at) & 1:
            assert time.monotonic() < end, f"version {self.version}: nothing came to {at}"
            time.sleep(0.001)

    def take(self):
        """The next frame's payload; gives the frame (the block) back to the kernel."""
        if self.version == 2:
            block = self.received % 4 * BLOCK
            self.wait(block + 8)
            count, first = struct.unpack("II", peek(self.area + block + 12, 8))
            assert count == 1, count
            header = peek(self.area + block + first, 28)
            snap, mac = struct.unpack_from("I", header, 12)[0], struct.unpack_from("H", header, 24)[0]
            data, status = peek(self.area + block + first + mac, snap), block + 8
        else:
            frame = status = self.received % 16 * FRAME
            self.wait(frame)
            header = peek(self.area + frame, 28)
            layout = "8xIIHH" if self.version == 0 else "4xIIHH"
            _, snap, mac, _ = struct.unpack_from(layout, header)
            data = peek(self.area + frame + mac, snap)
        self.received += 1
        poke(self.area + status, bytes(4))
        return data[14:]

    def send(self, text):
        """Through the ring, where the socket has one to send from."""
        frame = bytes(12) + struct.pack("!H", self.protocol) + text
        if self.version == 2:
            with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as other:
                other.sendto(frame, ("lo", self.protocol))
            return
        at = 4 * BLOCK + self.sent % 4 * FRAME
        data, length, status = SEND[self.version]
        poke(self.area + at + data, frame)
        poke(self.area + at + length, struct.pack("I", len(frame)))
        poke(self.area + at + status, struct.pack("I", 1))
        self.socket.send(b"")
        self.sent += 1


def main():
    try:
        rings = [Ring(version) for version in range(3)]
    except OSError as error:
        raise Skip(f"no packet rings: {error}") from error
    for ring in rings:
        for n in range(3):
            ring.send(b"before %d" % n)
            assert ring.take() == b"before %d" % n
        ring.send(b"waiting")
    rings[2].wait(3 * BLOCK + 8)  # until the block is handed over
    fresh = Ring(2)
    fresh.protocol += 1
    fresh.socket.bind(("lo", fresh.protocol))
    content = [peek(ring.area, ring.size) for ring in rings[:2]]
    if checkpoint():
        rings[0].take()
    assert [peek(ring.area, ring.size) for ring in rings[:2]] == content
    for ring in rings:
        assert ring.take() == b"waiting"
    for ring in (*rings, fresh):
        for n in range(20):
            ring.send(b"after %d" % n)
            assert ring.take() == b"after %d" % n


run(main)
