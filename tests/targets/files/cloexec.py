"""Close-on-exec is kept for each descriptor."""

import os
import subprocess

from target_api import DIR, checkpoint, run


def main():
    first = os.open(DIR / "log", os.O_RDONLY)
    keep, close, again = (os.dup2(first, number) for number in (50, 51, 52))
    os.set_inheritable(close, False)
    os.set_inheritable(keep, True)
    os.set_inheritable(again, True)
    if checkpoint():
        os.set_inheritable(close, True)
    wanted = {keep: True, close: False, again: True}
    assert {fd: os.get_inheritable(fd) for fd in wanted} == wanted
    out = subprocess.run(["ls", "/proc/self/fd"], capture_output=True, close_fds=False, text=True).stdout.split()
    assert str(keep) in out and str(again) in out and str(close) not in out, out


run(main)
