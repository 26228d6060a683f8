"""Python streams with bytes in their buffers: text, binary, compressed."""

import gzip
import io

from target_api import DIR, checkpoint, run


def main():
    with open(DIR / "text", "w") as text, gzip.open(DIR / "packed", "wb") as packed:
        text.write("buffered, ")
        packed.write(b"a" * 1000)
        with open(DIR / "log2", "w+b", buffering=io.DEFAULT_BUFFER_SIZE) as both:
            both.write(b"0123456789")
            both.seek(4)
            if checkpoint():
                text.write("tampered ")
            assert both.read(2) == b"45"
        text.write("written later")
        packed.write(b"b" * 1000)
    assert (DIR / "text").read_text() == "buffered, written later"
    with gzip.open(DIR / "packed") as packed:
        assert packed.read() == b"a" * 1000 + b"b" * 1000


run(main)
