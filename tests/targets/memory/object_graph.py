"""A big changing graph of Python objects, checked against a running checksum."""

import random

from target_api import checkpoint, run


def main():
    rng = random.Random(1)
    store = {n: [n, str(n) * 5, {"n": n}] for n in range(20000)}
    total = sum(range(20000))

    def step(n):
        nonlocal total
        for _ in range(200):
            key = rng.randrange(20000)
            total -= store[key][2]["n"]
            store[key] = [key, "x" * rng.randrange(60), {"n": rng.randrange(1 << 30)}]
            total += store[key][2]["n"]

    if checkpoint(step):
        store[7][2]["n"] += 1
    assert sum(value[2]["n"] for value in store.values()) == total
    assert all(value[0] == key for key, value in store.items())


run(main)
