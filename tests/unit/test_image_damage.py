"""Every flipped byte and every truncation of an image is an ImageError; nothing wrong is read in silence."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ckpt.errors import ImageError, ImageVersionError
from ckpt.image.layout import VERSION, pack_prologue
from ckpt.image.reader import ImageReader
from ckpt.image.scan import rebuild, scan
from ckpt.image.sinks import MemorySink
from ckpt.image.sources import BytesSource
from tests.support.images import read_everything, small_image

IMAGE = small_image()


def refused(data: bytes) -> bool:
    try:
        read_everything(data)
    except ImageError:
        return True
    return False


def test_the_whole_image_is_read() -> None:
    assert not refused(IMAGE)


@pytest.mark.parametrize(("flip", "step", "noisy"), [(0x01, 1, False), (0x80, 23, True), (0xFF, 29, True)])
def test_every_flipped_byte_is_noticed(flip: int, step: int, noisy: bool) -> None:
    data = bytearray(small_image(noisy=noisy))
    silent = []
    for at in range(0, len(data), step):
        data[at] ^= flip
        if not refused(bytes(data)):
            silent.append(at)
        data[at] ^= flip
    assert silent == []


def test_every_truncation_is_noticed() -> None:
    sizes = [*range(0, len(IMAGE), 9), *range(len(IMAGE) - 100, len(IMAGE))]
    assert [size for size in sizes if not refused(IMAGE[:size])] == []


def test_bytes_after_the_end_are_noticed() -> None:
    assert refused(IMAGE + b"\0")
    assert refused(IMAGE + IMAGE)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.binary(max_size=300))
def test_any_bytes_are_refused(data: bytes) -> None:
    assert refused(data)
    assert refused(pack_prologue() + data)
    assert refused(IMAGE[:16] + data + IMAGE[-40:])


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_a_spliced_image_is_refused(data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(IMAGE) - 1))
    end = data.draw(st.integers(start, len(IMAGE)))
    spliced = IMAGE[:start] + data.draw(st.binary(max_size=64)) + IMAGE[end:]
    if spliced != IMAGE:
        assert refused(spliced)


def test_a_newer_version_names_both() -> None:
    newer = pack_prologue((VERSION[0], VERSION[1] + 1)) + IMAGE[16:]
    with pytest.raises(ImageVersionError) as caught:
        read_everything(newer)
    assert f"{VERSION[0]}.{VERSION[1] + 1}" in str(caught.value)
    assert f"{VERSION[0]}.{VERSION[1]}" in str(caught.value)
    with pytest.raises(ImageVersionError):
        read_everything(pack_prologue((VERSION[0] + 1, 0)) + IMAGE[16:])


def test_a_lost_index_is_rebuilt() -> None:
    end = ImageReader(BytesSource(IMAGE)).index.end
    for left in (IMAGE[:end], IMAGE[:-40], IMAGE[:-1], IMAGE[:-1] + b"?"):
        sink = MemorySink()
        rebuild(BytesSource(left), sink)
        assert bytes(sink.data) == IMAGE


def test_a_truncated_image_is_not_rebuilt() -> None:
    end = ImageReader(BytesSource(IMAGE)).index.end
    for size in range(0, end, 7):
        with pytest.raises(ImageError):
            rebuild(BytesSource(IMAGE[:size]), MemorySink())


def test_the_scanner_says_what_is_missing() -> None:
    with pytest.raises(ImageError, match="cut off: 1 bytes are missing"):
        end = ImageReader(BytesSource(IMAGE)).index.end
        scan(BytesSource(IMAGE[: end - 1]))
