"""The registry of record kinds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, dataclass_transform

RECORDS: dict[str, type[Any]] = {}
"""Every record kind by its name in an image."""

Record = Any
"""An instance of a class in RECORDS."""

T = TypeVar("T")


@dataclass_transform(frozen_default=True)
def record(name: str) -> Callable[[type[T]], type[T]]:
    """Make a class a frozen, slotted dataclass that an image can hold under `name`."""

    def register(cls: type[T]) -> type[T]:
        made = dataclass(frozen=True, slots=True)(cls)
        if name in RECORDS:
            raise ValueError(f"two record kinds are called {name}")
        RECORDS[name] = made
        made.RECORD_NAME = name  # type: ignore[attr-defined]
        return made

    return register
