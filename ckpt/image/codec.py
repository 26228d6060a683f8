"""Records to bytes and back: msgpack of [name, {field: value}], structured strictly by cattrs.

Whatever the bytes are, the result is a record or an ImageError.
"""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from collections.abc import Callable
from functools import cache
from typing import Any, get_type_hints

import cattrs
import msgpack
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn, override

import ckpt.records
from ckpt.errors import ImageError, ImageWriteError
from ckpt.records.base import RECORDS, Record


@cache
def every_kind() -> dict[str, type[Any]]:
    """Every record kind by name. Importing a module of ckpt.records registers its kinds; most commands need few."""
    for module in pkgutil.iter_modules(ckpt.records.__path__, "ckpt.records."):
        importlib.import_module(module.name)
    return RECORDS


def _exactly(kind: type[Any]) -> Callable[[object, Any], Any]:
    def structure(value: object, _: Any) -> Any:
        if type(value) is not kind:
            raise TypeError(f"{value!r:.40} is no {kind.__name__}")
        return value

    return structure


def _float(value: object, _: Any) -> float:
    if type(value) is float or type(value) is int:
        return float(value)
    raise TypeError(f"{value!r:.40} is no float")


_record_fields: dict[type[Any], tuple[str, ...]] = {}


def record_fields(cls: type[Any]) -> tuple[str, ...]:
    """The fields of a dataclass that hold a record of any kind."""
    if cls not in _record_fields:
        _record_fields[cls] = tuple(name for name, hint in get_type_hints(cls).items() if hint is Any)
    return _record_fields[cls]


def _tagged(value: Record) -> list[object]:
    return [value.RECORD_NAME, _unstructurer(type(value))(value)]


# cattrs empties its own caches whenever it makes a hook for a new kind of tuple.
_unstructurers: dict[type[Any], Callable[[Any], Any]] = {}
_structurers: dict[type[Any], Callable[[Any, Any], Any]] = {}


def _unstructurer(cls: type[Any]) -> Callable[[Any], Any]:
    if cls not in _unstructurers:
        _unstructurers[cls] = _converter.get_unstructure_hook(cls)
    return _unstructurers[cls]


def _structurer(cls: type[Any]) -> Callable[[Any, Any], Any]:
    if cls not in _structurers:
        _structurers[cls] = _converter.get_structure_hook(cls)
    return _structurers[cls]


def _untagged(value: object, _: Any) -> Record:
    cls = _class_of(value)
    if record_fields(cls):
        raise TypeError(f"a {cls.__name__} cannot stand inside a record")
    return _structurer(cls)(value[1], cls)  # type: ignore[index]


def _class_of(value: object) -> type[Any]:
    if type(value) is not list or len(value) != 2 or type(value[0]) is not str:
        raise TypeError("a record is [name, fields]")
    found = RECORDS.get(value[0]) or every_kind().get(value[0])
    if found is None:
        raise TypeError(f"there is no record kind {value[0]!r:.40}")
    return found


def _sequence(value: object) -> list[Any]:
    if type(value) is not list:
        raise TypeError(f"{value!r:.40} is no array")
    return value


def _make_converter() -> cattrs.Converter:
    made = cattrs.Converter(forbid_extra_keys=True, detailed_validation=False, prefer_attrib_converters=False)
    for kind in (int, str, bytes, bool):
        made.register_structure_hook(kind, _exactly(kind))
    made.register_structure_hook(float, _float)

    def is_tuple(kind: Any) -> bool:
        return getattr(kind, "__origin__", None) is tuple

    def tuple_hook(kind: Any) -> Callable[[object, Any], Any]:
        items = kind.__args__
        if len(items) == 2 and items[1] is Ellipsis:
            item = items[0]
            return lambda value, _: tuple([made.structure(part, item) for part in _sequence(value)])

        def fixed(value: object, _: Any) -> tuple[Any, ...]:
            parts = _sequence(value)
            if len(parts) != len(items):
                raise TypeError(f"{len(parts)} items instead of {len(items)}")
            return tuple([made.structure(part, item) for part, item in zip(parts, items, strict=True)])

        return fixed

    def is_dict(kind: Any) -> bool:
        return getattr(kind, "__origin__", None) is dict

    def dict_hook(kind: Any) -> Callable[[object, Any], Any]:
        key_kind, value_kind = kind.__args__

        def structure(value: object, _: Any) -> dict[Any, Any]:
            if type(value) is not dict:
                raise TypeError(f"{value!r:.40} is no map")
            return {made.structure(k, key_kind): made.structure(v, value_kind) for k, v in value.items()}

        return structure

    def dataclass_hook(cls: Any) -> Callable[[object, Any], Any]:
        tagged = {name: override(struct_hook=_untagged) for name in record_fields(cls)}
        make: Callable[..., Callable[[Any, Any], Any]] = make_dict_structure_fn
        plain = make(cls, made, **tagged)

        def structure(value: object, kind: Any) -> Any:
            if type(value) is not dict:
                raise TypeError(f"{value!r:.40} is no map of fields")
            return plain(value, kind)

        return structure

    def unstructure_hook(cls: Any) -> Callable[[Any], Any]:
        tagged = {name: override(unstruct_hook=_tagged) for name in record_fields(cls)}
        make: Callable[..., Callable[[Any], Any]] = make_dict_unstructure_fn
        return make(cls, made, **tagged)

    made.register_structure_hook_factory(is_tuple, tuple_hook)
    made.register_structure_hook_factory(is_dict, dict_hook)
    made.register_structure_hook_factory(dataclasses.is_dataclass, dataclass_hook)
    made.register_unstructure_hook_factory(dataclasses.is_dataclass, unstructure_hook)
    return made


_converter = _make_converter()


def warm() -> None:
    """Make the code for every kind of record now: a millisecond for each, which a freeze need not wait for."""
    for cls in every_kind().values():
        _structurer(cls)
        _unstructurer(cls)


def encode_record(record: Record) -> bytes:
    """The bytes of a record, read back once: what cannot be restored is found while it can still be said."""
    name = getattr(type(record), "RECORD_NAME", None)
    if RECORDS.get(name or "") is not type(record):
        raise ImageWriteError(f"{type(record).__name__} is not a registered record")
    try:
        packed = bytes(msgpack.packb(_tagged(record), use_bin_type=True, unicode_errors="surrogateescape"))
        back = decode_record(packed, f"a new {name} record")
    except (TypeError, ValueError, OverflowError, AttributeError, ImageError) as error:
        raise ImageWriteError(f"record {name} cannot be stored: {error}") from error
    if back != record:
        raise ImageWriteError(f"record {name} would not be read back as it is")
    return packed


def decode_record(data: bytes, where: str) -> Record:
    """The record in `data`; `where` names it in an error."""
    try:
        value = msgpack.unpackb(data, raw=False, unicode_errors="surrogateescape", strict_map_key=True)
        cls = _class_of(value)
        return _structurer(cls)(value[1], cls)
    except (ValueError, TypeError, KeyError, IndexError, OverflowError, RecursionError) as error:
        raise ImageError(f"{where} is not a record: {_reason(error)}") from error
    except (cattrs.errors.ForbiddenExtraKeysError, cattrs.errors.StructureHandlerNotFoundError) as error:
        raise ImageError(f"{where} is not a record: {_reason(error)}") from error
    except msgpack.exceptions.UnpackException as error:
        raise ImageError(f"{where} is not a record: {_reason(error)}") from error


def _reason(error: BaseException) -> str:
    if isinstance(error, KeyError):
        return f"the field {error.args[0]!r} is missing"
    return str(error) or type(error).__name__
