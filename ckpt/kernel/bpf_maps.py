"""BPF maps: what one is, what is in it, and making one like it. Source: include/uapi/linux/bpf.h."""

from __future__ import annotations

import ctypes
import errno
from collections.abc import Iterator
from dataclasses import dataclass

from ckpt.errors import KernelError
from ckpt.kernel import uapi_bpf as ub
from ckpt.kernel.bpf import bpf
from ckpt.kernel.kernel_memory import possible_cpus


@dataclass(frozen=True, slots=True)
class MapInfo:
    """The part of struct bpf_map_info that makes the map."""

    type: int
    id: int
    key_size: int
    value_size: int
    max_entries: int
    map_flags: int
    name: bytes
    map_extra: int


def info(fd: int) -> MapInfo:
    """BPF_OBJ_GET_INFO_BY_FD."""
    room = ctypes.create_string_buffer(ub.bpf_map_info.size)
    bpf(ub.BPF_OBJ_GET_INFO_BY_FD, ub.obj_info_attr.pack(fd, len(room), ctypes.addressof(room)))
    kind, number, key, value, entries, flags, name, extra = ub.bpf_map_info.unpack(room.raw)
    return MapInfo(kind, number, key, value, entries, flags, name.rstrip(b"\0"), extra)


def by_id(number: int, flags: int = 0) -> int | None:
    """A descriptor of the map with this id; None when there is none (or this user may not have it)."""
    try:
        return bpf(ub.BPF_MAP_GET_FD_BY_ID, ub.map_by_id_attr.pack(number, 0, flags))
    except KernelError as error:
        if error.errno in (errno.ENOENT, errno.EPERM):
            return None
        raise


def create(wanted: MapInfo) -> int:
    """A new, empty map."""
    flags = wanted.map_flags & ~ub.BPF_F_NUMA_NODE  # which node is not told
    attr = ub.map_create_long_attr.pack(
        wanted.type, wanted.key_size, wanted.value_size, wanted.max_entries, flags, wanted.name, wanted.map_extra
    )
    return bpf(ub.BPF_MAP_CREATE, attr)


def value_room(one: MapInfo) -> int:
    """Bytes of a value as bpf(2) reads and writes it: of a map that keeps one for each CPU, those of all."""
    if one.type not in ub.PERCPU_MAPS:
        return one.value_size
    return (one.value_size + 7) // 8 * 8 * len(possible_cpus())


def elements(fd: int, one: MapInfo) -> Iterator[tuple[bytes, bytes]]:
    """Every key with its value."""
    key = ctypes.create_string_buffer(one.key_size)
    following = ctypes.create_string_buffer(one.key_size)
    value = ctypes.create_string_buffer(value_room(one))
    at = 0  # no key: gives the first
    while True:
        try:
            bpf(ub.BPF_MAP_GET_NEXT_KEY, ub.map_elem_attr.pack(fd, at, ctypes.addressof(following), 0))
        except KernelError as error:
            if error.errno == errno.ENOENT:
                return
            raise
        key.raw, at = following.raw, ctypes.addressof(key)
        bpf(ub.BPF_MAP_LOOKUP_ELEM, ub.map_elem_attr.pack(fd, at, ctypes.addressof(value), 0))
        yield key.raw, value.raw


def update(fd: int, key: bytes, value: bytes) -> None:
    """Set one element."""
    held = ctypes.create_string_buffer(key, len(key)), ctypes.create_string_buffer(value, len(value))
    bpf(ub.BPF_MAP_UPDATE_ELEM, ub.map_elem_attr.pack(fd, *(ctypes.addressof(one) for one in held), 0))


def freeze(fd: int) -> None:
    """No more changes through bpf(2)."""
    bpf(ub.BPF_MAP_FREEZE, ub.map_elem_attr.pack(fd, 0, 0, 0))
