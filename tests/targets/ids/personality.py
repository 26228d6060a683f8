"""The personality: no randomisation, read implies exec off, short timers."""

from target_api import checkpoint, libc, run


def main():
    libc.personality(0x0040000 | 0x4000000)
    if checkpoint():
        libc.personality(0)
    assert libc.personality(0xFFFFFFFF) == 0x4040000


run(main)
