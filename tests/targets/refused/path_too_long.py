"""A file, and the working directory, below so many directories that the kernel tells their paths to nobody."""

import os

from target_api import checkpoint, run


def main():
    for _ in range(20):
        os.mkdir("d" * 240)
        os.chdir("d" * 240)
    deep = os.open("file", os.O_RDWR | os.O_CREAT)
    os.write(deep, b"deep")
    checkpoint()
    assert os.pread(deep, 9, 0) == b"deep"
    assert os.listdir(".") == ["file"]


run(main)
