"""Parent and child share pages by fork and part from each other between the rounds."""

import os
import time

from target_api import DIR, PAGE, checkpoint, child, exit_code, mmap, pattern, peek, poke, run


def main():
    area = mmap(32 * PAGE)
    poke(area, pattern(9, 32 * PAGE))

    def other():
        count = 0
        while not (DIR / "go").exists():
            poke(area + (count % 8 + 8) * PAGE, b"child %8d" % count)
            count += 1
            time.sleep(0.02)
        for page in range(32):
            text = peek(area + page * PAGE, 6)
            assert (text == b"child ") if 8 <= page < min(16, 8 + count) else text != b"parent", (page, text)
        assert peek(area + 20 * PAGE, 12 * PAGE) == pattern(9, 32 * PAGE)[20 * PAGE :]
        return 5

    pid = child(other)
    step = lambda n: poke(area + n % 8 * PAGE, b"parent %8d" % n)  # noqa: E731
    if checkpoint(step):
        poke(area + 30 * PAGE, b"tampered")
    assert peek(area + 16 * PAGE, 16 * PAGE) == pattern(9, 32 * PAGE)[16 * PAGE :]
    assert exit_code(pid) == 5
    assert os.getpid() != pid


run(main)
