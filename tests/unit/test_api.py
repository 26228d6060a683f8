"""The public API: everything that is named is there, typed and documented."""

from __future__ import annotations

import inspect

import pytest

import ckpt


@pytest.mark.parametrize("name", [name for name in ckpt.__all__ if name != "__version__"])
def test_named_things_are_documented_and_typed(name: str) -> None:
    thing = getattr(ckpt, name)
    text = inspect.getdoc(thing) or ""
    assert text and not text.startswith(f"{name}("), "a docstring of its own, not the dataclass's signature"
    if inspect.isfunction(thing):
        assert {*thing.__annotations__} >= {*inspect.signature(thing).parameters, "return"}


def test_dir_and_all_agree() -> None:
    assert {*ckpt._HOMES} | {"CkptError", "NotDumpable", "Refusal", "__version__"} == {*ckpt.__all__}
    assert list(ckpt.__all__) == sorted(ckpt.__all__)
