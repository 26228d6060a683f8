"""A working directory that has been removed."""

import os

from target_api import DIR, checkpoint, run


def main():
    gone = DIR / "gone"
    gone.mkdir()
    os.chdir(gone)
    gone.rmdir()
    if checkpoint(same=False):
        os.chdir(DIR)
    assert os.readlink("/proc/self/cwd") == f"{gone} (deleted)", os.readlink("/proc/self/cwd")
    assert not gone.exists()


run(main)
