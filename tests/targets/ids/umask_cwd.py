"""umask and working directory, in parent and child."""

import os

from target_api import DIR, checkpoint, child, exit_code, run, wait_for_go


def main():
    deep = DIR / "a" / "b"
    deep.mkdir(parents=True)

    def other():
        os.chdir(DIR / "a")
        os.umask(0o007)
        wait_for_go()
        return 0 if os.umask(0) == 0o007 and os.getcwd() == str(DIR / "a") else 1

    pid = child(other)
    os.chdir(deep)
    os.umask(0o137)
    if checkpoint(same=False):
        os.chdir("/")
    assert os.getcwd() == str(deep) and os.umask(0) == 0o137
    (deep / "made").touch()
    assert os.path.exists("made") and exit_code(pid) == 0


run(main)
