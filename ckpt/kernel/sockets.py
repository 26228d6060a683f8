"""Socket system calls on raw descriptors and raw addresses (struct sockaddr as bytes), any family."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import select
import struct
from dataclasses import dataclass

from ckpt.errors import KernelError, NotPermitted
from ckpt.kernel import uapi
from ckpt.kernel import uapi_socket as u
from ckpt.kernel.libc import kernel_error, syscall
from ckpt.kernel.standins import entry


class iovec(ctypes.Structure):
    _fields_ = [("iov_base", ctypes.c_void_p), ("iov_len", ctypes.c_size_t)]


class msghdr(ctypes.Structure):
    _fields_ = [
        ("msg_name", ctypes.c_void_p),
        ("msg_namelen", ctypes.c_int),
        ("msg_iov", ctypes.POINTER(iovec)),
        ("msg_iovlen", ctypes.c_size_t),
        ("msg_control", ctypes.c_void_p),
        ("msg_controllen", ctypes.c_size_t),
        ("msg_flags", ctypes.c_uint),
    ]


@dataclass(frozen=True, slots=True)
class Message:
    """What one recvmsg gave; `fds` are new close-on-exec descriptors, the caller's to close."""

    data: bytes
    name: bytes  # the sender's sockaddr, b"" when it has none
    flags: int
    fds: tuple[int, ...]
    credentials: tuple[int, int, int] | None  # pid, uid, gid
    control: tuple[tuple[int, int, bytes], ...] = ()  # level, type and body of what else came along


def make_socket(family: int, kind: int, protocol: int = 0) -> int:
    """A close-on-exec socket."""
    return syscall(f"socket({family}, {kind}, {protocol})", u.SYS_socket, family, kind | u.SOCK_CLOEXEC, protocol)


def make_pair(kind: int) -> tuple[int, int]:
    """A connected pair of Unix sockets, close-on-exec."""
    pair = (ctypes.c_int * 2)()
    syscall("socketpair", u.SYS_socketpair, u.AF_UNIX, kind | u.SOCK_CLOEXEC, 0, pair)
    return pair[0], pair[1]


def bind(fd: int, address: bytes) -> None:
    syscall("bind", u.SYS_bind, fd, ctypes.create_string_buffer(address, len(address)), len(address))


def connect(fd: int, address: bytes) -> None:
    syscall("connect", u.SYS_connect, fd, ctypes.create_string_buffer(address, len(address)), len(address))


def start_connect(fd: int, address: bytes) -> None:
    """connect(2) on a non-blocking socket, which may be under way at the return."""
    try:
        connect(fd, address)
    except KernelError as error:
        if error.errno != errno.EINPROGRESS:
            raise


def listen(fd: int, backlog: int) -> None:
    syscall("listen", u.SYS_listen, fd, backlog)


def accept(fd: int) -> int:
    return syscall("accept4", u.SYS_accept4, fd, 0, 0, u.SOCK_CLOEXEC)


def shutdown(fd: int, how: int) -> None:
    syscall("shutdown", u.SYS_shutdown, fd, how)


def _name(what: str, nr: int, fd: int) -> bytes:
    buffer = ctypes.create_string_buffer(u.SOCKADDR_STORAGE_SIZE)
    length = ctypes.c_int(len(buffer))
    syscall(what, nr, fd, buffer, ctypes.byref(length))
    return buffer.raw[: length.value]


def getsockname(fd: int) -> bytes:
    """The local sockaddr; two bytes (the family alone) for an unbound Unix socket."""
    return _name("getsockname", u.SYS_getsockname, fd)


def getpeername(fd: int) -> bytes | None:
    """The peer's sockaddr; None when the socket is not connected."""
    try:
        return _name("getpeername", u.SYS_getpeername, fd)
    except KernelError as error:
        if error.errno in (errno.ENOTCONN, errno.EINVAL):
            return None
        raise


def getsockopt(fd: int, level: int, name: int, size: int = 4) -> bytes:
    """The value, at most `size` bytes."""
    buffer = ctypes.create_string_buffer(max(size, 1))
    length = ctypes.c_int(size)
    what = f"getsockopt({level}, {name})"
    syscall(what, u.SYS_getsockopt, fd, level, name, buffer, ctypes.byref(length))
    return buffer.raw[: min(length.value, size)]


def getsockopt_int(fd: int, level: int, name: int) -> int:
    """An option whose value is an int."""
    value = getsockopt(fd, level, name)
    return int.from_bytes(value, "little", signed=len(value) == 4)


def setsockopt(fd: int, level: int, name: int, value: bytes | int) -> None:
    data = struct.pack("<i", value) if isinstance(value, int) else value
    buffer = ctypes.create_string_buffer(data, len(data)) if data else None
    what = f"setsockopt({level}, {name})"
    syscall(what, u.SYS_setsockopt, fd, level, name, buffer if buffer is not None else 0, len(data))


def make_room(fd: int, force: int, limited: int, size: int) -> None:
    """SO_SNDBUFFORCE or SO_RCVBUFFORCE; without CAP_NET_ADMIN as far as SO_SNDBUF or SO_RCVBUF goes."""
    try:
        setsockopt(fd, u.SOL_SOCKET, force, size)
    except NotPermitted:
        setsockopt(fd, u.SOL_SOCKET, limited, size)


def peer_credentials(fd: int) -> tuple[int, int, int]:
    """SO_PEERCRED: pid, uid, gid; pid 0 when there is none, or it has no number here."""
    pid, uid, gid = struct.unpack("<iII", getsockopt(fd, u.SOL_SOCKET, u.SO_PEERCRED, 12))
    return pid, uid, gid


def peer_groups(fd: int) -> tuple[int, ...]:
    """SO_PEERGROUPS; empty on a kernel without it."""
    size = 256
    while True:
        try:
            groups = getsockopt(fd, u.SOL_SOCKET, u.SO_PEERGROUPS, size)
        except KernelError as error:
            if error.errno == errno.ERANGE:
                size *= 16
                continue
            if error.errno in (errno.ENODATA, errno.ENOPROTOOPT):
                return ()
            raise
        return struct.unpack(f"<{len(groups) // 4}I", groups)


def ioctl_int(fd: int, request: int) -> int:
    """An ioctl that gives an int."""
    try:
        return int(struct.unpack("<i", fcntl.ioctl(fd, request, b"\0" * 4))[0])
    except OSError as error:
        raise kernel_error(f"ioctl({request:#x})", error.errno or 0) from error


def socket_file(fd: int) -> int | None:
    """An O_PATH descriptor of the file that a Unix socket is bound to; None when the kernel does not give it."""
    try:
        return syscall("ioctl(SIOCUNIXFILE)", 16, fd, u.SIOCUNIXFILE, 0)
    except KernelError:
        return None


def readable(fd: int) -> bool:
    """Whether something is queued; asked without looking at it."""
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    return any(event & select.POLLIN for _fd, event in poller.poll(0))


def failed(fd: int) -> bool:
    """Whether an error waits to be fetched (POLLERR); SO_ERROR would fetch it."""
    poller = select.poll()
    poller.register(fd, 0)
    return any(event & select.POLLERR for _fd, event in poller.poll(0))


def network_namespace(fd: int, pid: int) -> int:
    """The inode of the network namespace the socket lives in (SIOCGSKNS), or else that of its holder `pid`.

    Only CAP_NET_ADMIN may ask the socket; without it a socket that came from another namespace goes unnoticed here.
    """
    try:
        namespace = syscall("ioctl(SIOCGSKNS)", 16, fd, u.SIOCGSKNS, 0)
    except NotPermitted:
        return os.stat(f"/proc/{entry(pid)}/ns/net").st_ino
    try:
        return os.fstat(namespace).st_ino
    finally:
        os.close(namespace)


def receive(fd: int, size: int, flags: int) -> Message | None:
    """One recvmsg without blocking; None when nothing is queued. Else KernelError."""
    data = ctypes.create_string_buffer(max(size, 1))
    name = ctypes.create_string_buffer(u.SOCKADDR_STORAGE_SIZE)
    control = ctypes.create_string_buffer(2048)
    vector = iovec(ctypes.addressof(data), size)
    header = msghdr(
        ctypes.addressof(name),
        len(name),
        ctypes.pointer(vector),
        1,
        ctypes.addressof(control),
        len(control),
        0,
    )
    try:
        got = syscall(
            "recvmsg",
            u.SYS_recvmsg,
            fd,
            ctypes.byref(header),
            flags | u.MSG_DONTWAIT | u.MSG_CMSG_CLOEXEC,
        )
    except KernelError as error:
        if error.errno == errno.EAGAIN:
            return None
        raise
    fds: list[int] = []
    credentials = None
    other: list[tuple[int, int, bytes]] = []
    raw = control.raw[: header.msg_controllen]
    offset = 0
    while offset + 16 <= len(raw):
        length, level, kind = struct.unpack_from("<Qii", raw, offset)
        if length < 16:
            break
        body = raw[offset + 16 : offset + length]
        if level == u.SOL_SOCKET and kind == u.SCM_RIGHTS:
            fds += struct.unpack(f"<{len(body) // 4}i", body[: len(body) // 4 * 4])
        elif level == u.SOL_SOCKET and kind == u.SCM_CREDENTIALS:
            credentials = struct.unpack("<iII", body[:12])
        elif level == u.SOL_SOCKET and kind == u.SCM_PIDFD:
            if (pidfd := struct.unpack("<i", body[:4])[0]) >= 0:
                os.close(pidfd)
        else:
            other.append((level, kind, body))
        offset += (length + 7) & ~7
    sender = name.raw[: header.msg_namelen]
    return Message(data.raw[:got], sender, header.msg_flags, tuple(fds), credentials, tuple(other))


def discard(fd: int) -> bool:
    """Take one message out of the queue of a socket of any family; False when there is none."""
    try:
        syscall("recvfrom", u.SYS_recvfrom, fd, 0, 0, u.MSG_DONTWAIT | u.MSG_TRUNC, 0, 0)
    except KernelError as error:
        if error.errno == errno.EAGAIN:
            return False
        raise
    return True


def peek_whole_writes(fd: int, size: int, room: int) -> int:
    """How many of `size` peeked bytes of a stream belong to writes that end within the first `room` bytes.

    Behind `room` bytes the buffer is no memory: the kernel gives up on the write that does not fit.
    """
    pages = (room + mmap.PAGESIZE - 1) // mmap.PAGESIZE + 1
    with mmap.mmap(-1, pages * mmap.PAGESIZE) as area:
        start = ctypes.addressof(ctypes.c_char.from_buffer(area))
        edge = start + (pages - 1) * mmap.PAGESIZE
        syscall("mprotect", uapi.SYS_mprotect, edge, mmap.PAGESIZE, uapi.PROT_NONE)
        vector = iovec(edge - room, size)
        header = msghdr(None, 0, ctypes.pointer(vector), 1, None, 0, 0)
        try:
            return syscall("recvmsg", u.SYS_recvmsg, fd, ctypes.byref(header), u.MSG_PEEK | u.MSG_DONTWAIT)
        except KernelError as error:
            if error.errno == errno.EFAULT:
                return 0
            raise


def send(
    fd: int,
    data: bytes,
    *,
    to: bytes = b"",
    fds: tuple[int, ...] = (),
    credentials: tuple[int, int, int] | None = None,
    flags: int = 0,
) -> int:
    """One sendmsg without blocking; gives the number of bytes taken."""
    control = b""
    if fds:
        control += _control(u.SCM_RIGHTS, struct.pack(f"<{len(fds)}i", *fds))
    if credentials is not None:
        control += _control(u.SCM_CREDENTIALS, struct.pack("<iII", *credentials))
    body = ctypes.create_string_buffer(data, max(len(data), 1))
    name = ctypes.create_string_buffer(to, max(len(to), 1))
    extra = ctypes.create_string_buffer(control, max(len(control), 1))
    vector = iovec(ctypes.addressof(body), len(data))
    header = msghdr(
        ctypes.addressof(name) if to else None,
        len(to),
        ctypes.pointer(vector),
        1,
        ctypes.addressof(extra) if control else None,
        len(control),
        0,
    )
    return syscall("sendmsg", u.SYS_sendmsg, fd, ctypes.byref(header), flags | u.MSG_DONTWAIT | u.MSG_NOSIGNAL)


def send_urgent(fd: int, data: bytes) -> int:
    """Send with MSG_OOB: the last byte is the urgent one."""
    return syscall("sendto", u.SYS_sendto, fd, data, len(data), u.MSG_OOB | u.MSG_DONTWAIT | u.MSG_NOSIGNAL, 0, 0)


def peek_urgent(fd: int) -> bytes:
    """The byte that recv(MSG_OOB) would give; b"" when there is none, or it is to be read inline."""
    buffer = ctypes.create_string_buffer(1)
    try:
        flags = u.MSG_OOB | u.MSG_PEEK | u.MSG_DONTWAIT
        got = syscall("recvfrom(MSG_OOB)", u.SYS_recvfrom, fd, buffer, 1, flags, 0, 0)
        return buffer.raw[:got]
    except KernelError as error:
        if error.errno in (errno.EINVAL, errno.EAGAIN, errno.EOPNOTSUPP):
            return b""
        raise


def _control(kind: int, body: bytes) -> bytes:
    length = 16 + len(body)
    return struct.pack("<Qii", length, u.SOL_SOCKET, kind) + body + b"\0" * (-length % 8)


def getsockopt_count(fd: int, level: int, name: int) -> int:
    """What a getsockopt with no room answers in the length: for SO_GET_FILTER the number of instructions."""
    length = ctypes.c_int(0)
    # SO_GET_FILTER gives the count as the length without writing to the buffer.
    syscall(f"getsockopt({level}, {name})", u.SYS_getsockopt, fd, level, name, 0, ctypes.byref(length))
    return length.value


def getsockopt_filter(fd: int, count: int) -> bytes:
    """The classic BPF program of SO_GET_FILTER: `count` struct sock_filter of 8 bytes."""
    buffer = ctypes.create_string_buffer(count * 8)
    length = ctypes.c_int(count)  # counted in instructions, not in bytes
    what = "getsockopt(SO_GET_FILTER)"
    syscall(what, u.SYS_getsockopt, fd, u.SOL_SOCKET, u.SO_GET_FILTER, buffer, ctypes.byref(length))
    return buffer.raw


def attach_filter(fd: int, program: bytes) -> None:
    """SO_ATTACH_FILTER with a struct sock_filter array."""
    buffer = ctypes.create_string_buffer(program, len(program))
    sock_fprog = struct.pack("<HxxxxxxQ", len(program) // 8, ctypes.addressof(buffer))
    setsockopt(fd, u.SOL_SOCKET, u.SO_ATTACH_FILTER, sock_fprog)


def attach_reuseport(fd: int, program: bytes) -> None:
    """SO_ATTACH_REUSEPORT_CBPF with a struct sock_filter array."""
    buffer = ctypes.create_string_buffer(program, len(program))
    sock_fprog = struct.pack("<HxxxxxxQ", len(program) // 8, ctypes.addressof(buffer))
    setsockopt(fd, u.SOL_SOCKET, u.SO_ATTACH_REUSEPORT_CBPF, sock_fprog)


def group_filter(fd: int, level: int, interface: int, group: bytes) -> tuple[int, tuple[bytes, ...]] | None:
    """MCAST_MSFILTER: mode and sources (sockaddr_storage) of a group; None when the socket is not in it."""
    room = 64
    size = 144 + room * u.SOCKADDR_STORAGE_SIZE
    buffer = ctypes.create_string_buffer(struct.pack("<Q", interface) + group + struct.pack("<II", 0, room), size)
    length = ctypes.c_int(size)
    try:
        what = "getsockopt(MCAST_MSFILTER)"
        syscall(what, u.SYS_getsockopt, fd, level, u.MCAST_MSFILTER, buffer, ctypes.byref(length))
    except KernelError as error:
        if error.errno in (errno.EADDRNOTAVAIL, errno.EINVAL, errno.ENODEV, errno.ENOPROTOOPT, errno.EOPNOTSUPP):
            return None
        raise
    mode, count = struct.unpack_from("<II", buffer.raw, 136)
    step = u.SOCKADDR_STORAGE_SIZE
    return mode, tuple(buffer.raw[144 + i * step : 144 + (i + 1) * step] for i in range(min(count, room)))
