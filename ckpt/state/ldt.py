"""The local descriptor table of an address space (modify_ldt): segments that a program has made for itself."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

from ckpt.errors import KernelError
from ckpt.kernel import uapi
from ckpt.kernel import uapi_state as us
from ckpt.kernel.procfs import MapsLine
from ckpt.records.seams import LiveTask, RemoteTask
from ckpt.records.support import Support
from ckpt.state.mm_modes import hole
from ckpt.state.rebuild import rebuilding

SUPPORT = Support("memory", "segments", "the local descriptor table (modify_ldt)")

_GLANCE = 1024
_ANONYMOUS = (1 << 64) - 1
_SIZE = us.LDT_ENTRIES * us.LDT_ENTRY_SIZE


def collect_ldt(remote: LiveTask, maps: Sequence[MapsLine]) -> bytes:
    """The descriptors as the CPU reads them, up to the last that is in use. One remote syscall where there are none."""
    try:
        if not _read(remote, remote.put(bytes(_GLANCE)), _GLANCE):
            return b""
    except KernelError:
        return b""  # no CONFIG_MODIFY_LDT_SYSCALL
    # There is one, and nothing tells its length: it is read whole, into pages mapped for the moment.
    room = hole(maps)
    prot, flags = uapi.PROT_READ | uapi.PROT_WRITE, uapi.MAP_PRIVATE | uapi.MAP_ANONYMOUS | uapi.MAP_FIXED_NOREPLACE
    with remote.through(uapi.SYS_munmap, room, _SIZE):
        remote.syscall(uapi.SYS_mmap, room, _SIZE, prot, flags, _ANONYMOUS, 0)
        try:
            found = remote.read(room, _read(remote, room, _SIZE))
        finally:
            remote.syscall(uapi.SYS_munmap, room, _SIZE)
    return found[: -(-len(found.rstrip(b"\0")) // us.LDT_ENTRY_SIZE) * us.LDT_ENTRY_SIZE]


def _read(remote: RemoteTask, address: int, size: int) -> int:
    return remote.syscall(us.SYS_modify_ldt, us.MODIFY_LDT_READ, address, size)


def restore_ldt(remote: RemoteTask, record: bytes) -> None:
    """Each descriptor by itself; children that are cloned have a copy."""
    for number, words in _in_use(record):
        with rebuilding(remote.pid, f"segment {number} of the local descriptor table"):
            address = remote.put(user_desc(number, words))
            remote.syscall(us.SYS_modify_ldt, us.MODIFY_LDT_WRITE, address, us.user_desc.size)


def _in_use(record: bytes) -> Iterator[tuple[int, int]]:
    for number, (words,) in enumerate(struct.iter_unpack("<Q", record)):
        if words:
            yield number, words


def user_desc(number: int, words: int) -> bytes:
    """struct user_desc of a segment descriptor: the inverse of fill_ldt, arch/x86/include/asm/desc.h."""

    def bits(at: int, count: int) -> int:
        return words >> at & (1 << count) - 1

    base = bits(16, 24) | bits(56, 8) << 24
    limit = bits(0, 16) | bits(48, 4) << 16
    kind = bits(40, 4)
    flags = bits(54, 1)  # seg_32bit
    flags |= (kind >> 2) << 1  # contents
    flags |= (~kind >> 1 & 1) << 3  # read_exec_only
    flags |= bits(55, 1) << 4  # limit_in_pages
    flags |= (1 - bits(47, 1)) << 5  # seg_not_present
    flags |= bits(52, 1) << 6  # useable
    return us.user_desc.pack(number, base, limit, flags)
