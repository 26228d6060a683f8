"""A child that answers each byte over pipes."""

import os

from target_api import checkpoint, child, exit_code, run


def main():
    to_child, from_parent = os.pipe()
    to_parent, from_child = os.pipe()

    def echo():
        os.close(from_parent)
        count = 0
        while data := os.read(to_child, 1):
            count += 1
            os.write(from_child, data.upper())
        return count

    pid = child(echo)
    os.close(to_child)
    os.close(from_child)

    def ask(letter):
        os.write(from_parent, letter)
        return os.read(to_parent, 1)

    assert ask(b"a") == b"A"
    if checkpoint():
        ask(b"x")
    assert ask(b"b") == b"B"
    os.close(from_parent)
    assert exit_code(pid) == 2


run(main)
