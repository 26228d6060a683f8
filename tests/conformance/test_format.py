"""The format: records, definitions, golden images and FORMAT.md say the same."""

from __future__ import annotations

import importlib.util
import json
import re
import struct
import tomllib
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from ckpt.chain import verify, view
from ckpt.errors import ImageError, MissingParent
from ckpt.image import layout, spacemap
from ckpt.image.codec import every_kind
from ckpt.image.reader import ImageReader
from ckpt.image.sources import BytesSource

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "images" / "golden" / "v1"
FORMAT = (ROOT / "images" / "FORMAT.md").read_text()


def load_generator() -> ModuleType:
    loader = SourceFileLoader("gen_golden", str(ROOT / "scripts" / "gen_golden"))
    spec = importlib.util.spec_from_loader("gen_golden", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


GENERATOR = load_generator()


def test_definitions_are_those_of_the_classes() -> None:
    assert GENERATOR.out_of_date() == [], "run scripts/gen_golden"


def test_each_definition_parses_and_names_its_record() -> None:
    names = set()
    for path in (ROOT / "images" / "definitions").glob("*.toml"):
        definition = tomllib.loads(path.read_text())
        assert path.stem == definition["name"]
        names.add(definition["name"])
    assert names == set(every_kind())


def contains(found: Any, expected: Any) -> bool:
    """Everything expected is found; a field that a later version added does no harm."""
    if isinstance(expected, dict):
        return isinstance(found, dict) and all(k in found and contains(found[k], v) for k, v in expected.items())
    if isinstance(expected, list):
        return (
            isinstance(found, list)
            and len(found) == len(expected)
            and all(contains(one, other) for one, other in zip(found, expected, strict=True))
        )
    return bool(found == expected)


def test_golden_images_say_what_they_always_said() -> None:
    expected = json.loads((GOLDEN / "expected.json").read_text())
    found = json.loads(json.dumps(GENERATOR.described(GENERATOR.stored_golden())))
    assert contains(found, expected)
    assert found.keys() == expected.keys()


def test_the_writer_still_writes_the_same_content() -> None:
    expected = json.loads((GOLDEN / "expected.json").read_text())
    assert contains(json.loads(json.dumps(GENERATOR.described(GENERATOR.golden_images()))), expected)


def test_golden_images_hold_every_kind_of_frame() -> None:
    kinds, codecs = set(), set()
    for data in GENERATOR.stored_golden().values():
        index = ImageReader(BytesSource(data)).index
        kinds |= set(index.kinds.tolist())
        codecs |= set(index.codecs.tolist())
    assert kinds | {layout.INDEX} == set(layout.FRAME_KINDS)
    assert codecs == set(layout.CODECS)


def test_golden_images_are_a_chain() -> None:
    report = verify(GOLDEN)
    assert report.ok, report.problems
    with view(GOLDEN, 2) as image:
        assert image.header.round == 2


def test_every_flipped_byte_of_a_golden_chain_is_noticed(tmp_path: Path) -> None:
    """XOR frames included: their content is known only together with their parent."""
    images = GENERATOR.stored_golden()
    name = sorted(images)[-1]
    data = bytearray(images[name])
    parents = [ImageReader(BytesSource(images[other], other)) for other in sorted(images, reverse=True)[1:]]
    silent = []
    for at in range(0, len(data), 2):
        data[at] ^= 1 << (at % 8)
        try:
            GENERATOR.View([ImageReader(BytesSource(bytes(data))), *parents]).verify_top()
            reader = ImageReader(BytesSource(bytes(data)))
            for frame in range(len(reader.index.offsets)):
                reader.check_stored(frame)
            silent.append(at)
        except ImageError:
            pass
        data[at] ^= 1 << (at % 8)
    assert silent == []


def test_a_golden_delta_alone_misses_its_parent(tmp_path: Path) -> None:
    (tmp_path / "0003.ckpt").write_bytes((GOLDEN / "0003.ckpt").read_bytes())
    with pytest.raises(MissingParent):
        view(tmp_path)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("prologue", layout.PROLOGUE.size),
        ("frame header", layout.HEADER.size),
        ("trailer", layout.TRAILER.size),
        ("chunk header", spacemap.CHUNK.size),
        ("row", spacemap.ROW_SIZE),
    ],
)
def test_the_sizes_in_the_text(name: str, size: int) -> None:
    assert re.search(rf"\b{name} \({size} bytes\)", FORMAT), f"FORMAT.md does not say: {name} ({size} bytes)"


def test_the_numbers_in_the_text() -> None:
    assert f"version {layout.VERSION[0]}.{layout.VERSION[1]}" in FORMAT
    for number, name in layout.FRAME_KINDS.items():
        assert f"| {number} | {name} |" in FORMAT
    for number, name in layout.CODECS.items():
        assert f"| {number} | {name} |" in FORMAT
    for name in every_kind():
        assert (ROOT / "images" / "definitions" / f"{name}.toml").exists()
    assert layout.HEADER_DTYPE.itemsize == layout.HEADER.size == struct.calcsize("<4sBBHIIQQ32sQ")
