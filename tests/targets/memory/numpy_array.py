"""A numpy array in training: every round changes all of it."""

from target_api import Skip, checkpoint, run


def main():
    try:
        import numpy as np
    except ImportError as error:
        raise Skip("no numpy") from error
    weights = np.arange(200_000, dtype=np.float64)
    steps = 0

    def step(n):
        nonlocal weights, steps
        weights += 1.0
        steps = n + 1

    if checkpoint(step):
        weights[1234] -= 1
    assert np.array_equal(weights, np.arange(200_000, dtype=np.float64) + steps)


run(main)
