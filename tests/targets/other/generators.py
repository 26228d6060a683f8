"""Python's own state: generators half way, open contexts, weak references, random numbers, a running hash."""

import hashlib
import random
import weakref
from contextlib import ExitStack

from target_api import checkpoint, run


class Thing:
    pass


def main():
    def count():
        n = 0
        while True:
            n += yield n
            n += 1

    counter, closed, thing = count(), [], Thing()
    next(counter)
    counter.send(10)
    dead, alive = weakref.ref(Thing()), weakref.ref(thing)
    rng, same = random.Random(5), random.Random(5)
    digest = hashlib.sha256(b"first half")
    with ExitStack() as stack:
        stack.callback(closed.append, 1)
        rng.random()
        if checkpoint():
            counter.send(1)
        same.random()
        assert rng.random() == same.random()
    digest.update(b" second half")
    assert digest.digest() == hashlib.sha256(b"first half second half").digest()
    assert counter.send(100) == 112 and closed == [1]
    assert dead() is None and alive() is thing


run(main)
