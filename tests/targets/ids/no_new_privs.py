"""no_new_privs, dumpable, THP disabled, timer slack and the machine check policy: the prctl values."""

from target_api import checkpoint, prctl, run


def view():
    return [prctl(option) for option in (39, 3, 42, 30, 34)]


def main():
    prctl(38, 1)
    prctl(4, 0)
    prctl(41, 1)
    prctl(29, 123456)
    before = view()
    if checkpoint():
        prctl(29, 1)
    assert view() == before, (before, view())
    assert before[:4] == [1, 0, 1, 123456]


run(main)
