"""Namespaces that the tree made for itself, of the kinds in which there is little: they are made again, and entered."""

from __future__ import annotations

import errno
import fcntl
import socket
import struct
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

from ckpt.errors import KernelError
from ckpt.kernel import namespaces, uapi
from ckpt.kernel import uapi_namespaces as un
from ckpt.records.seams import RemoteTask
from ckpt.records.tree import NamespaceRecord
from ckpt.state.context import CollectContext, RestoreContext
from ckpt.state.rebuild import rebuilding

KINDS = {"uts": un.CLONE_NEWUTS, "net": un.CLONE_NEWNET, "ipc": un.CLONE_NEWIPC}
_WORDS = {"uts": ("UTS", "-u"), "net": ("network", "-n"), "ipc": ("IPC", "-i")}
_FOUND = "own_namespaces"
_LOOPBACK = "lo"
_ifreq = struct.Struct("<16sH")

Identity = tuple[int, int]


def found(context: CollectContext, kind: str, identity: Identity, pid: int, tid: int) -> None:
    """Note that a thread is in a namespace that is not ckpt's."""
    known: dict[tuple[str, Identity], list[tuple[int, int]]] = context.shared.setdefault(_FOUND, {})
    known.setdefault((kind, identity), []).append((pid, tid))


def collect_own(context: CollectContext) -> None:
    """A record for each namespace that was found, or a refusal."""
    known: dict[tuple[str, Identity], list[tuple[int, int]]] = context.shared.get(_FOUND, {})
    for (kind, identity), members in known.items():
        pid, tid = members[0]
        sharer = _sharer(context, kind, identity)
        try:
            with namespaces.visiting(tid, kind, KINDS[kind]):
                record, reason = _look(kind, tuple(members))
        except (KernelError, OSError) as error:
            record, reason = None, f"is not the one that ckpt runs in, and cannot be looked into ({error})"
        if record is not None and not sharer:
            context.records.append(record)
            continue
        if sharer:
            reason = f"is not the one that ckpt runs in, and {sharer}"
        words, option = _WORDS[kind]
        context.refuse(pid, f"its {words} namespace", reason, f"run ckpt inside it: nsenter -t {tid} {option} ckpt …")


def _sharer(context: CollectContext, kind: str, identity: Identity) -> str:
    """What else keeps a namespace, and would not be in the one that a restore makes."""
    tree = {task.pid for task in context.tasks}
    outside = next((pid for pid in namespaces.inhabitants(kind, identity) if pid not in tree), None)
    if outside is not None:
        return f"task {outside}, outside the tree, is in it too"
    place = namespaces.kept_at(kind, identity)
    return f"it is kept at {place}" if place is not None else ""


def _look(kind: str, members: tuple[tuple[int, int], ...]) -> tuple[NamespaceRecord | None, str]:
    """From within: what is there, or why it cannot be made again."""
    if kind == "uts":
        host, domain = (Path(f"/proc/sys/kernel/{name}").read_bytes()[:-1] for name in ("hostname", "domainname"))
        return NamespaceRecord(kind, members, host, domain), ""
    if kind == "ipc":
        if namespaces.ipc_objects():
            return None, "is not the one that ckpt runs in, and has System V objects or message queues in it"
        return NamespaceRecord(kind, members), ""
    names = [name for _, name in socket.if_nameindex()]
    if names != [_LOOPBACK]:
        return None, f"is not the one that ckpt runs in, and has interfaces in it ({', '.join(names)})"
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as any_:
        answer = fcntl.ioctl(any_, un.SIOCGIFFLAGS, _request(0))
    return NamespaceRecord(kind, members, loopback_up=bool(_ifreq.unpack_from(answer)[1] & un.IFF_UP)), ""


def _request(flags: int) -> bytes:
    return _ifreq.pack(_LOOPBACK.encode(), flags).ljust(un.IFREQ_SIZE, b"\0")


# ------------------------------------------------------------------ restore


def restore_own(context: RestoreContext, threads: Mapping[int, RemoteTask]) -> None:
    """When memory and files stand, of which some belong to other namespaces, with all privileges."""
    for record in context.view.records("namespace"):
        assert isinstance(record, NamespaceRecord)
        words = f"its {_WORDS[record.kind][0]} namespace"
        members = sorted(record.members, key=lambda member: member[0] != member[1])  # a pidfd of a process is older
        (pid, first), others = members[0], members[1:]
        with rebuilding(pid, words, hint="ckpt needs CAP_SYS_ADMIN for it"):
            _make(threads[first], record)
        for pid, tid in others:
            with rebuilding(pid, words), _pidfd(threads[tid], first) as fd:
                threads[tid].syscall(un.SYS_setns, fd, KINDS[record.kind])


def _make(thread: RemoteTask, record: NamespaceRecord) -> None:
    thread.syscall(un.SYS_unshare, KINDS[record.kind])
    if record.kind == "uts":
        thread.syscall(un.SYS_sethostname, thread.put(record.nodename), len(record.nodename))
        thread.syscall(un.SYS_setdomainname, thread.put(record.domainname), len(record.domainname))
    elif record.loopback_up:
        with namespaces.visiting(thread.tid, "net", un.CLONE_NEWNET):
            try:
                with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as any_:
                    fcntl.ioctl(any_, un.SIOCSIFFLAGS, _request(un.IFF_UP))
            except OSError as error:
                raise KernelError(f"the loopback: {error.strerror}", errno=error.errno or 0) from None


@contextmanager
def _pidfd(thread: RemoteTask, tid: int) -> Iterator[int]:
    try:
        fd = thread.syscall(uapi.SYS_pidfd_open, tid, 0)
    except KernelError as error:
        if error.errno not in (errno.EINVAL, errno.ENOENT):
            raise
        fd = thread.syscall(uapi.SYS_pidfd_open, tid, uapi.PIDFD_THREAD)
    try:
        yield fd
    finally:
        thread.syscall(uapi.SYS_close, fd)
