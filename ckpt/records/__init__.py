"""What an image says: frozen typed records, one file per kind of state; no I/O.

Every class decorated with `record("name")` may stand in an image as a record frame. Fields are int, float, bool,
str, bytes, None, other dataclasses, `X | None`, `tuple[X, ...]` and `dict[str, X]`, nothing else, so that the
codec in `ckpt.image` can structure them strictly from msgpack.
"""

from ckpt.records.base import RECORDS, Record, record

__all__ = ["RECORDS", "Record", "record"]
