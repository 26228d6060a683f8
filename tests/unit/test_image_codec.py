"""Records survive the codec, and nothing that is no record does."""

from __future__ import annotations

import dataclasses
import types
import typing
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ckpt.errors import ImageError, ImageWriteError
from ckpt.image.codec import decode_record, encode_record, every_kind
from ckpt.records.files import Descriptor, FdTable, FileRecord
from ckpt.records.image import Statistics
from ckpt.records.journal import JournalRecord, TrackerState
from ckpt.records.mm import ShmRecord
from ckpt.records.tree import TreeRecord
from tests.support.images import image_header, records


def pack(name: object, fields: object) -> bytes:
    return bytes(msgpack.packb([name, fields]))


TREE = {"root_pid": 1, "pids": [1, 2]}


@pytest.mark.parametrize(
    "record",
    [
        *records(),
        image_header(),
        Statistics(freezing_time=1, frozen_time=2, memdump_time=3),
        FdTable(4, (Descriptor(0, 1, True), Descriptor(1, 1, False))),
        JournalRecord(None, TrackerState(1, 2, "b", "soft-dirty", 3, {"a": b"\0"}), None),
        TreeRecord(2**64 - 1, (), monotonic_ns=-1),
    ],
    ids=lambda record: type(record).__name__,
)
def test_round_trip(record: object) -> None:
    assert decode_record(encode_record(record), "a record") == record


def test_defaults_may_be_missing() -> None:
    assert decode_record(pack("tree", TREE), "a record") == TreeRecord(1, (1, 2))


@pytest.mark.parametrize(
    "data",
    [
        pack("tree", {**TREE, "extra": 1}),
        pack("tree", {"root_pid": 1}),
        pack("tree", {**TREE, "root_pid": "1"}),
        pack("tree", {**TREE, "root_pid": True}),
        pack("tree", {**TREE, "root_pid": 1.0}),
        pack("tree", {**TREE, "root_pid": None}),
        pack("tree", {**TREE, "pids": [1, "2"]}),
        pack("tree", {**TREE, "pids": {}}),
        pack("tree", {**TREE, "pids": "12"}),
        pack("tree", [1, [1]]),
        pack("trees", TREE),
        pack(1, TREE),
        pack(["tree"], TREE),
        bytes(msgpack.packb(["tree"])),
        bytes(msgpack.packb({"tree": 1})),
        bytes(msgpack.packb(5)),
        bytes(msgpack.packb([["x"]] * 2)),
        pack("tree", TREE) + b"\0",
        b"\x91" * 5000 + b"\xc0",
        b"\xdd\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xff",
        b"\xc1",
        b"",
        pack("file", {"file_id": 1, "kind": "x", "flags": 0, "pos": 0, "payload": 5}),
        pack("file", {"file_id": 1, "kind": "x", "flags": 0, "pos": 0, "payload": ["none", {}]}),
        pack("file", {"file_id": 1, "kind": "x", "flags": 0, "pos": 0, "payload": ["tree", {}]}),
        pack("journal", {"image_id": None, "last": {"pid": 1}, "intent": None}),
    ],
)
def test_what_is_no_record_is_refused(data: bytes) -> None:
    with pytest.raises(ImageError, match="here is not a record"):
        decode_record(data, "here")


def test_a_file_cannot_hold_a_file() -> None:
    inner = FileRecord(1, "memfd", 0, 0, ShmRecord("k", 1, "memfd"))
    with pytest.raises(ImageWriteError):
        encode_record(dataclasses.replace(inner, payload=inner))


@pytest.mark.parametrize(
    "record",
    [
        TreeRecord("1", ()),  # type: ignore[arg-type]
        TreeRecord(2**64, ()),
        TreeRecord(1, [1]),  # type: ignore[arg-type]
        Descriptor(0, 1, True),
        FileRecord(1, "memfd", 0, 0, object()),
        object(),
    ],
    ids=repr,
)
def test_what_cannot_be_read_back_is_not_written(record: object) -> None:
    with pytest.raises(ImageWriteError):
        encode_record(record)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    try:
        decode_record(data, "here")
    except ImageError:
        pass


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(["tree", "file", "mm", "header", "task"]), values)
def test_any_values(name: str, fields: object) -> None:
    try:
        decode_record(pack(name, fields), "here")
    except ImageError:
        pass


def supported(hint: object) -> bool:
    """Whether the codec knows what to do with a field of this type."""
    if hint in (int, float, bool, str, bytes, type(None), Any):
        return True
    if isinstance(hint, types.UnionType):
        return len(hint.__args__) == 2 and type(None) in hint.__args__ and all(map(supported, hint.__args__))
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) is tuple:
        return all(supported(item) for item in arguments if item is not Ellipsis)
    if typing.get_origin(hint) is dict:
        return arguments[0] is str and supported(arguments[1])
    return dataclasses.is_dataclass(hint) and all(map(supported, typing.get_type_hints(hint).values()))


@pytest.mark.parametrize("name", sorted(every_kind()))
def test_every_record_has_fields_that_can_be_stored(name: str) -> None:
    hints = typing.get_type_hints(every_kind()[name])
    assert [field for field, hint in hints.items() if not supported(hint)] == []
