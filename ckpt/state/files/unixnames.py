"""Binding Unix sockets to the names of an image, with the socket files put in place at the end."""

from __future__ import annotations

import errno
import os
import shutil
import struct
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from ckpt.errors import KernelError, RestoreError
from ckpt.kernel import procfs, sockets
from ckpt.kernel import uapi_socket as u
from ckpt.kernel.uapi_state import CAP_SYS_CHROOT
from ckpt.records.sockets import SocketPlace

_COLLECTIONS, _COLLECTION = 20, 0.01  # how often to try for a name, and seconds between


def address(name: bytes) -> bytes:
    """struct sockaddr_un."""
    end = b"" if name[:1] == b"\0" or len(name) >= u.SUN_PATH_MAX else b"\0"
    return struct.pack("<H", u.AF_UNIX) + name + end


def show(name: bytes) -> str:
    """A name for people: "/run/x", "@abstract"."""
    if not name:
        return "(unnamed)"
    text = name.decode(errors="backslashreplace")
    return "@" + text[1:] if text[0] == "\0" else text


def sun_path(name: bytes) -> bytes:
    """The name in a sockaddr_un."""
    path = name[2:]
    return path if path[:1] == b"\0" else path.rstrip(b"\0")


@dataclass
class Names:
    """The socket files made by one restore, under temporary names until `settle`.

    bind(2) gives a socket the very name it is called with, but on disk that name is taken by the old socket
    file or by another socket. So the old file steps aside, the new one is made and moved away, and the old
    one comes back; at the end the new one is renamed over it, or removed if the name led elsewhere.
    """

    moved: list[tuple[str, SocketPlace]] = field(default_factory=list)  # temporary path, place
    directories: list[str] = field(default_factory=list)  # made because a name needed them
    bound: dict[int, tuple[bytes, str]] = field(default_factory=dict)  # descriptor -> name, temporary path or ""
    private: str = ""  # a directory in which stand-ins have their files

    def bind(self, fd: int, name: bytes, place: SocketPlace | None) -> None:
        """Bind `fd` to `name`. Raises RestoreError."""
        try:
            if place is None:
                _bind_abstract(fd, address(name))
                self.bound[fd] = name, ""
            else:
                self._bind_path(fd, name, place)
        except (KernelError, OSError) as error:
            raise RestoreError(f"Unix socket {show(name)} cannot be bound: {error}") from error

    def passing_place(self, name: bytes) -> SocketPlace | None:
        """Of a stand-in, which is gone when the restore is done; None for an abstract or empty name.

        Who may change the root has the name in a directory of its own: what is at the place itself is not disturbed.
        """
        if not name or name[:1] == b"\0":
            return None
        if not _may_chroot() or b".." in name.split(b"/"):
            return SocketPlace("/", os.fsdecode(name), False, 0o755, 0, 0)
        if not self.private:
            self.private = tempfile.mkdtemp(prefix="ckpt-")
        path = os.path.join(self.private, os.fsdecode(name.lstrip(b"/")))
        return SocketPlace(self.private, path, False, 0o755, 0, 0)

    def can_pass(self, name: bytes) -> bool:
        """Whether a stand-in can have this name of a path and disturb nobody."""
        if _may_chroot() and b".." not in name.split(b"/"):
            return True
        return os.path.isabs(name) and os.path.isdir(os.path.dirname(name)) and not os.path.lexists(name)

    def close(self, fd: int) -> None:
        """Close a stand-in."""
        self.bound.pop(fd, None)
        os.close(fd)

    def connect(self, fd: int, to: int) -> None:
        """Connect `fd` to a socket that was bound here: several may have had one name, in their turn or directory."""
        with self.reach(to) as where:
            sockets.connect(fd, where)

    @contextmanager
    def reach(self, fd: int) -> Iterator[bytes]:
        """The address at which a socket bound here can be reached, from any task being built; b"" for one unbound."""
        name, path = self.bound.get(fd, (b"", ""))
        if not path:
            yield address(name) if name else b""
            return
        if len(os.fsencode(path)) < u.SUN_PATH_MAX:
            yield address(os.fsencode(path))
            return
        with self._short(path) as short:
            yield address(os.fsencode(short))

    def settle(self) -> None:
        """Give the socket files their names, owners and modes."""
        for temporary, place in self.moved:
            try:
                if not place.present:
                    os.unlink(temporary)
                    continue
                os.chmod(temporary, place.mode)
                os.chown(temporary, place.uid, place.gid)
                os.rename(temporary, place.path)
            except OSError as error:
                raise RestoreError(f"socket file {place.path} cannot be put in place: {error}") from error
        self.moved.clear()
        self._remove_directories()

    def discard(self) -> None:
        """Remove what `settle` has not put in place."""
        for temporary, _place in self.moved:
            try:
                os.unlink(temporary)
            except OSError:
                pass  # already gone with its directory
        self.moved.clear()
        self._remove_directories()

    def _remove_directories(self) -> None:
        for directory in reversed(self.directories):
            try:
                os.rmdir(directory)
            except OSError:
                pass  # somebody has put something there
        self.directories.clear()
        if self.private:
            shutil.rmtree(self.private, ignore_errors=True)
            self.private = ""

    def _make_directories(self, directory: str) -> None:
        """The directory of a name may be gone like the file: it is made for as long as the socket needs it."""
        missing = []
        while not os.path.isdir(directory):
            missing.append(directory)
            directory = os.path.dirname(directory)
        for path in reversed(missing):
            os.mkdir(path, 0o700)
            self.directories.append(path)

    def _bind_path(self, fd: int, name: bytes, place: SocketPlace) -> None:
        path = os.path.join(place.directory, os.fsdecode(name.lstrip(b"/")))
        if not place.present:
            self._make_directories(os.path.dirname(path))
        stem = os.path.join(os.path.dirname(path), f".ckpt-{os.getpid()}-{len(self.moved)}")
        aside = stem + "-old"
        there = os.path.lexists(path)
        if there:
            os.rename(path, aside)
        try:
            with _inside(place.directory, root=name.startswith(b"/")):
                sockets.bind(fd, address(name))
            os.rename(path, stem)
        finally:
            if there:
                os.rename(aside, path)
        self.moved.append((stem, place))
        self.bound[fd] = name, stem

    @contextmanager
    def _short(self, path: str) -> Iterator[str]:
        """The path through a descriptor of its directory: a socket address has room for 107 bytes only."""
        directory = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield f"/proc/{os.getpid()}/fd/{directory}/{os.path.basename(path)}"
        finally:
            os.close(directory)


def _may_chroot() -> bool:
    """As a user in a user namespace of his own, too."""
    return bool(int(procfs.status(os.getpid())["CapEff"], 16) >> CAP_SYS_CHROOT & 1)


def _bind_abstract(fd: int, where: bytes) -> None:
    """Sockets that were in flight in each other when their tasks ended keep their names until the kernel finds them."""
    for _ in range(_COLLECTIONS):
        try:
            sockets.bind(fd, where)
            return
        except KernelError as error:
            if error.errno != errno.EADDRINUSE:
                raise
        os.close(sockets.make_socket(u.AF_UNIX, u.SOCK_DGRAM))  # the end of any socket has it look for them
        time.sleep(_COLLECTION)
    sockets.bind(fd, where)


@contextmanager
def _inside(directory: str, *, root: bool) -> Iterator[None]:
    """Work in `directory` for a moment, or with it as the root, for names that count from there."""
    if root and directory == "/":
        yield
        return
    before = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    top = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if root:
            os.chroot(directory)
        else:
            os.chdir(directory)
        yield
    finally:
        if root:
            os.fchdir(top)
            os.chroot(".")
        os.fchdir(before)
        os.close(top)
        os.close(before)
