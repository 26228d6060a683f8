"""A process of its own that keeps held TCP sockets safe: from the death of ckpt, and from the end of their task.

It has a descriptor of every socket that `tcp_repair.hold` stopped. If ckpt dies, it lets them all go on. If the
task is killed on purpose, it keeps the connections to the outside, held, until a restore takes them back.

Requests, one a packet: `add` (with the descriptor), `free`, `release`, `keep`; after `keep`, on an abstract Unix
socket, `take` (answers with the descriptors) and `done`.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ckpt.errors import KernelError
from ckpt.kernel import tcp_repair

_ROOM = 1 << 16
_OK = b"ok"
_BATCH = 1024  # inodes in one packet
TOKEN_SIZE = 32  # characters; what is left of a `keep` are the inodes


@dataclass
class _Held:
    fd: int
    reuse: int
    program: bytes

    def release(self) -> None:
        with contextlib.suppress(KernelError):  # it may be reset meanwhile
            tcp_repair.release(self.fd, self.program, self.reuse)


def address(token: str) -> bytes:
    """Where the holder of a dump listens."""
    return b"\0ckpt-tcp-" + token.encode()


class Holder:
    """The holder as ckpt sees it while it dumps."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        root = str(Path(__file__).parents[2])
        code = f"import sys; sys.path[:0] = {[root]!r}; from ckpt.kernel.tcp_holder import main; main()"
        null = subprocess.DEVNULL
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-E", "-S", "-c", code],
                stdin=theirs.fileno(),
                stdout=null,
                stderr=null,
                cwd="/",
                start_new_session=True,
            )
        self._link = ours
        self._open = True

    def add(self, fd: int, ino: int, reuse: int, program: bytes) -> None:
        """From now on `fd` is let go if ckpt dies. Called before it is held."""
        socket.send_fds(self._link, [b"add " + struct.pack("<Qi", ino, reuse) + program], [fd])
        self._answer()

    def free(self, inodes: Iterable[int]) -> None:
        """Let these go on, and forget them."""
        numbers = list(inodes)
        for at in range(0, len(numbers), _BATCH):
            some = numbers[at : at + _BATCH]
            self._link.send(b"free" + struct.pack(f"<{len(some)}Q", *some))
            self._answer()

    def release(self) -> None:
        """Let every socket go on; the holder ends. Does nothing when that is done."""
        if self._open:
            self._finish(b"release")
            self._process.wait()

    def keep(self, token: str, inodes: Iterable[int]) -> None:
        """The task is dead: keep these sockets for the restore, close the others without a word to their peers."""
        kept = list(inodes)
        self._finish(b"keep" + struct.pack(f"<{len(kept)}Q", *kept) + token.encode())
        if kept:
            self._process.returncode = 0  # it outlives ckpt: nothing to wait for
        else:
            self._process.wait()

    def _finish(self, request: bytes) -> None:
        self._link.send(request)
        self._answer()
        self._link.close()
        self._open = False

    def _answer(self) -> None:
        if self._link.recv(16) != _OK:
            raise KernelError("the process that guards TCP connections has ended")


class Kept:
    """The sockets that a holder kept since the dump. They stay its own until `done`."""

    def __init__(self, link: socket.socket, fds: dict[int, tuple[int, int, bytes]]) -> None:
        self._link = link
        self.fds = fds  # inode -> descriptor, SO_REUSEADDR, filter

    def done(self) -> None:
        """The restore stands: the holder may go."""
        with contextlib.suppress(OSError):  # it ended by itself: as good
            self._link.send(b"done")
            self._link.recv(16)

    def close(self) -> None:
        """Without `done` before, the holder stops the sockets again and keeps them."""
        for fd, _reuse, _program in self.fds.values():
            with contextlib.suppress(OSError):
                os.close(fd)
        self.fds.clear()
        self._link.close()


def take(token: str) -> Kept | None:
    """The sockets of a dump; None when nobody holds them (another host, or restored already)."""
    link = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    kept = Kept(link, {})
    try:
        link.connect(address(token))
        link.send(b"take")
        while True:
            data, fds, _flags, _name = socket.recv_fds(link, _ROOM, 1)
            if data == _OK:
                return kept
            if not data:
                raise ConnectionResetError
            ino, reuse = struct.unpack_from("<Qi", data)
            kept.fds[ino] = (fds[0], reuse, data[12:])
    except OSError:  # nobody listens, or it is just about to end
        kept.close()
        return None


def main() -> None:
    """The holder itself; its link to ckpt is descriptor 0."""
    held: dict[int, _Held] = {}
    with socket.socket(fileno=0) as link:
        while True:
            data, fds, _flags, _name = socket.recv_fds(link, _ROOM, 1)
            if data.startswith(b"add "):
                ino, reuse = struct.unpack_from("<Qi", data, 4)
                held[ino] = _Held(fds[0], reuse, data[16:])
                link.send(_OK)
            elif data.startswith(b"free"):
                for (ino,) in struct.iter_unpack("<Q", data[4:]):
                    one = held.pop(ino)
                    one.release()
                    os.close(one.fd)
                link.send(_OK)
            elif data.startswith(b"keep"):
                token = data[-TOKEN_SIZE:].decode()
                kept = struct.unpack(f"<{(len(data) - 4 - TOKEN_SIZE) // 8}Q", data[4:-TOKEN_SIZE])
                for ino in [ino for ino in held if ino not in kept]:
                    os.close(held.pop(ino).fd)
                with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
                    listener.bind(address(token))
                    listener.listen(1)
                    link.send(_OK)
                    if held:
                        _serve(listener, held)
                return
            else:  # release, or ckpt is gone
                for one in held.values():
                    one.release()
                if data:
                    link.send(_OK)
                return


def _serve(listener: socket.socket, held: dict[int, _Held]) -> None:
    while True:
        client, _ = listener.accept()
        with client:
            _pid, uid, _gid = struct.unpack("<iII", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
            if uid not in (0, os.getuid()) or client.recv(16) != b"take":
                continue
            try:
                for ino, one in held.items():
                    socket.send_fds(client, [struct.pack("<Qi", ino, one.reuse) + one.program], [one.fd])
                client.send(_OK)
                if client.recv(16) == b"done":
                    listener.close()
                    for one in held.values():
                        os.close(one.fd)
                    client.send(_OK)
                    return
            except OSError:
                pass  # the restore is gone
            for one in held.values():
                with contextlib.suppress(KernelError):
                    tcp_repair.hold(one.fd)
