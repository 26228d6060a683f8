"""Children are born and end between the rounds; those alive at the end are all there."""

import os
import time

from target_api import DIR, PAGE, checkpoint, child, exit_code, mmap, peek, poke, run


def main():
    alive = {}

    def work(n):
        area = mmap(4 * PAGE)
        poke(area, b"%08d" % n)
        while not (DIR / "go").exists():
            time.sleep(0.02)
        return int(peek(area, 8)) % 200

    def step(n):
        alive[child(work, n)] = n
        if len(alive) > 4:
            pid = next(iter(alive))
            os.kill(pid, 9)
            code = exit_code(pid)  # by the signal, unless it saw the word to go before that
            assert code == -9 or (code == alive[pid] % 200 and (DIR / "go").exists()), code
            del alive[pid]

    checkpoint(step)
    for pid, n in alive.items():
        assert exit_code(pid) == n % 200, n


run(main)
