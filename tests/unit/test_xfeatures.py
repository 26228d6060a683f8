"""The compacted XSAVE format against the standard one, made with the layout that this CPU names."""

from __future__ import annotations

import struct

import pytest

from ckpt.kernel import xfeatures
from ckpt.kernel.xfeatures import standard_format

COMPACTED = 1 << 63
# number -> size, offset, flags: as on a machine with AVX, AVX-512 and PKRU, and a supervisor state between them
LAYOUT = {2: (256, 576, 0), 5: (64, 1088, 0), 6: (512, 1152, 0), 7: (1024, 1664, 2), 8: (128, 0, 1), 9: (8, 2688, 0)}
SUPPORTED = 7 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 9


@pytest.fixture(autouse=True)
def _cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def cpuid(leaf: int, part: int) -> tuple[int, int, int, int]:
        assert leaf == 0xD
        return (SUPPORTED, 0, 0, 0) if part == 0 else (*LAYOUT.get(part, (0, 0, 0)), 0)

    monkeypatch.setattr(xfeatures, "_cpuid", cpuid)


def part(number: int) -> bytes:
    return bytes([number]) * LAYOUT[number][0]


def test_what_is_in_use_goes_to_its_standard_place() -> None:
    legacy = bytes(range(256)) * 2
    layout = 7 | 1 << 5 | 1 << 7 | 1 << 8 | 1 << 9
    in_use = 3 | 1 << 5 | 1 << 7 | 1 << 8 | 1 << 9
    area = legacy + struct.pack("<QQ", in_use, COMPACTED | layout) + bytes(48)
    area += bytes(256) + part(5)  # 576: AVX in its initial state; 832: the mask registers
    area += bytes(-len(area) % 64) + part(7) + part(8) + part(9)
    found = standard_format(area)
    assert len(found) == 2696
    assert found[:464] == legacy[:464]
    assert struct.unpack_from("<Q", found, 464) == (SUPPORTED,)
    assert struct.unpack_from("<QQ", found, 512) == (in_use & SUPPORTED, 0)
    assert found[576:832] == bytes(256)
    assert found[1088:1152] == part(5)
    assert found[1152:1664] == bytes(512)
    assert found[1664:2688] == part(7)
    assert found[2688:2696] == part(9)


def test_the_standard_format_stays() -> None:
    area = bytearray(2696)
    area[512:520] = struct.pack("<Q", 7 | 1 << 9)
    area[576:832], area[2688:2696] = part(2), part(9)
    found = standard_format(bytes(area))
    assert found[576:832] == part(2) and found[2688:2696] == part(9)
    assert struct.unpack_from("<QQ", found, 512) == (7 | 1 << 9, 0)
