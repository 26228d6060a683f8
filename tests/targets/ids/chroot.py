"""A child in a root directory of its own."""

import os
from pathlib import Path

from target_api import DIR, Skip, checkpoint, child, exit_code, run


def main():
    if os.getuid():
        raise Skip("needs root")
    (DIR / "root" / "in").mkdir(parents=True)
    reader, writer = os.pipe()
    back, told = os.pipe()

    def inside():
        os.chroot(DIR / "root")
        os.chdir("/in")
        os.write(told, b"x")
        os.close(writer)
        os.read(reader, 1)
        return 0 if os.getcwd() == "/in" and os.listdir("/") == ["in"] else 1

    pid = child(inside)
    os.read(back, 1)
    if checkpoint():
        Path(DIR / "root" / "more").touch()
    assert os.readlink(f"/proc/{pid}/root") == str(DIR / "root")
    os.close(writer)
    assert exit_code(pid) == 0


run(main)
