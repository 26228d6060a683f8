"""Descriptors with high numbers and holes between them."""

import os
import resource

from target_api import DIR, checkpoint, run


def main():
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    top = min(limit, 60000) - 1
    resource.setrlimit(resource.RLIMIT_NOFILE, (top + 1, limit))
    numbers = [top, top - 7, 1023, 1024, 500]
    for number in numbers:
        fd = os.open(DIR / f"file{number}", os.O_RDWR | os.O_CREAT)
        os.write(fd, b"%d" % number)
        os.dup2(fd, number)
        os.close(fd)
    if checkpoint():
        os.close(top)
        os.dup2(1023, top)
    for number in numbers:
        assert os.pread(number, 10, 0) == b"%d" % number
    assert os.open("/dev/null", os.O_RDONLY) < 500


run(main)
