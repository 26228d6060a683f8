"""BPF maps that hold plain values: hashes, arrays, tries, also with a value for each CPU.

A map that still lives at the restore (it is pinned, or another process or program has it) is the same one again.
"""

from __future__ import annotations

import os

from ckpt.errors import KernelError
from ckpt.kernel import bpf_maps, uapi_files
from ckpt.kernel import uapi_bpf as ub
from ckpt.records.base import Record
from ckpt.records.file_kinds import BpfMapFile, BpfMapRecord
from ckpt.records.files import FileRecord
from ckpt.records.support import Support
from ckpt.state.context import CollectContext, RestoreContext
from ckpt.state.files.base import FileView

SUPPORT = Support(
    "files",
    "BPF maps",
    "hashes, arrays, LRU hashes and tries, with a value for all or for each CPU, and what is in them; frozen",
    lost="their BTF types",
)

_LINK = uapi_files.ANON_INODE + "bpf-map"
_CLOSE = "let the task close it before the dump"
_MOST = 12 << 20  # bytes of elements, for an image record to hold them
_MADE = "bpf-map:"


class BpfMaps:
    """anon_inode:bpf-map"""

    kind = "bpf-map"

    def recognises(self, view: FileView) -> bool:
        return view.link == _LINK

    def collect(self, view: FileView, context: CollectContext) -> Record:
        if view.magic:
            context.refuse(view.pid, view.subject, "is a BPF map in memory, which cannot be restored", _CLOSE)
            return BpfMapFile(0)
        with view.stolen(context) as fd:
            one = bpf_maps.info(fd)
            if one.type not in ub.PLAIN_MAPS:
                reason = f"is a BPF map of type {one.type}, which cannot be restored"
                context.refuse(view.pid, view.subject, reason, _CLOSE)
            elif f"{_MADE}{one.id}" not in context.shared:
                context.shared[f"{_MADE}{one.id}"] = True
                context.records.append(_record(view, fd, one, context))
        return BpfMapFile(one.id)

    def restore(self, file: FileRecord, context: RestoreContext) -> int:
        payload: BpfMapFile = file.payload
        key = f"{_MADE}{payload.map_id}"
        if key not in context.shared:
            record = next(r for r in context.view.records("bpf-map") if r.map_id == payload.map_id)
            context.shared[key] = fd = _living(record) or _make(record)
            context.stack.callback(os.close, fd)
        made: int = context.shared[key]
        flags = _ACCESS[file.flags & os.O_ACCMODE]
        again = bpf_maps.by_id(bpf_maps.info(made).id, flags) if flags or key + "+" in context.shared else None
        context.shared[key + "+"] = True
        return os.dup(made) if again is None else again


KIND = BpfMaps()

_ACCESS = {os.O_RDWR: 0, os.O_RDONLY: ub.BPF_F_RDONLY, os.O_WRONLY: ub.BPF_F_WRONLY}


def _record(view: FileView, fd: int, one: bpf_maps.MapInfo, context: CollectContext) -> BpfMapRecord:
    own = bpf_maps.by_id(one.id)  # the task's may be for writing only
    keys, values, size = [], [], 0
    try:
        for key, value in bpf_maps.elements(fd if own is None else own, one):
            if one.type in ub.ARRAY_MAPS and not any(value):
                continue
            keys.append(key)
            values.append(value)
            size += len(key) + len(value)
            if size > _MOST:
                context.refuse(view.pid, view.subject, f"is a BPF map with more than {_MOST >> 20} MiB in it", _CLOSE)
                break
    except KernelError as error:
        context.refuse(view.pid, view.subject, f"is a BPF map that cannot be read: {error.message}", _CLOSE)
    finally:
        if own is not None:
            os.close(own)
    return BpfMapRecord(
        map_id=one.id,
        type=one.type,
        key_size=one.key_size,
        value_size=one.value_size,
        max_entries=one.max_entries,
        map_flags=one.map_flags,
        name=one.name,
        map_extra=one.map_extra,
        frozen=view.info.get("frozen", ["0"])[0] == "1",
        keys=b"".join(keys),
        values=b"".join(values),
    )


def _wanted(record: BpfMapRecord) -> bpf_maps.MapInfo:
    return bpf_maps.MapInfo(
        record.type,
        record.map_id,
        record.key_size,
        record.value_size,
        record.max_entries,
        record.map_flags,
        record.name,
        record.map_extra,
    )


def _living(record: BpfMapRecord) -> int | None:
    """The very map, when somebody else has kept it."""
    fd = bpf_maps.by_id(record.map_id)
    if fd is not None and bpf_maps.info(fd) != _wanted(record):
        os.close(fd)
        return None
    return fd


def _make(record: BpfMapRecord) -> int:
    wanted = _wanted(record)
    fd = bpf_maps.create(wanted)
    try:
        room = bpf_maps.value_room(wanted)
        for at in range(len(record.keys) // record.key_size):
            key = record.keys[at * record.key_size : (at + 1) * record.key_size]
            bpf_maps.update(fd, key, record.values[at * room : (at + 1) * room])
        if record.frozen:
            bpf_maps.freeze(fd)
    except BaseException:
        os.close(fd)
        raise
    return fd
