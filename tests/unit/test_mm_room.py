"""The room that a restore needs in the address spaces it builds."""

from __future__ import annotations

import pytest

from ckpt.errors import HostMismatch, RestoreError
from ckpt.kernel import procfs
from ckpt.records.mm import MmRecord, Vma
from ckpt.state import mm_room

MIB = 1 << 20
TOP = 0x7FFF_F000_0000


def space(*spans: tuple[int, int], mm_id: int = 7) -> MmRecord:
    return MmRecord(mm_id, f"mm:{mm_id}", tuple(Vma(start, end, 3, False, 0, "") for start, end in spans))


def test_a_hole_with_a_margin_comes_first() -> None:
    narrow = space((0, 16 * MIB), (17 * MIB, 64 * MIB), (128 * MIB, TOP))
    assert mm_room.free_block([narrow], MIB // 2) == 66 * MIB


def test_a_hole_without_a_margin_will_do() -> None:
    assert mm_room.free_block([space((0, 16 * MIB), (17 * MIB, TOP))], MIB // 2) == 16 * MIB + 4096


def test_a_hole_must_be_there_in_every_task() -> None:
    tasks = [space((0, 16 * MIB), (17 * MIB, TOP)), space((0, 32 * MIB), (33 * MIB, TOP), mm_id=8)]
    with pytest.raises(RestoreError, match="no address is free"):
        mm_room.free_block(tasks, MIB // 2)
    assert "fewer addresses" in mm_room.refusals(tasks, MIB // 2)[0].reason
    assert mm_room.refusals(tasks[:1], MIB // 2) == []


def test_as_many_mappings_as_the_host_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    mm = space(*((n * MIB, n * MIB + 4096) for n in range(1, 93)))
    monkeypatch.setattr(procfs, "max_map_count", lambda: 100)
    mm_room.check_mappings([mm])
    assert mm_room.refusals([mm], MIB) == []
    monkeypatch.setattr(procfs, "max_map_count", lambda: 99)
    with pytest.raises(HostMismatch, match="max_map_count"):
        mm_room.check_mappings([mm])
    assert mm_room.refusals([mm], MIB)[0].pid == 7
