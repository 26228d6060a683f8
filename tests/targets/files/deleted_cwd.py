"""Working directories that were deleted: the same one in two tasks, which also have it open, and another in a child."""

import os

from target_api import DIR, checkpoint, child, exit_code, run, wait_for_go


def main():
    gone, deep = DIR / "gone", DIR / "a" / "b"
    gone.mkdir()
    deep.mkdir(parents=True)
    os.chdir(gone)
    fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
    gone.rmdir()

    def same():
        wait_for_go()
        return os.stat(".").st_ino != os.fstat(fd).st_ino

    def other():
        os.chdir(deep)
        os.rmdir(deep)
        os.rmdir(DIR / "a")
        (DIR / "moved").touch()
        wait_for_go()
        return os.stat(".").st_nlink != 0

    pids = [child(same), child(other)]
    while not (DIR / "moved").exists():
        pass
    if checkpoint(same=False):
        os.chdir(DIR)
    assert os.readlink("/proc/self/cwd") == f"{gone} (deleted)", os.readlink("/proc/self/cwd")
    assert os.stat(".").st_ino == os.fstat(fd).st_ino and os.fstat(fd).st_nlink == 0
    assert not gone.exists()
    assert exit_code(pids[0]) == 0 and exit_code(pids[1]) == 0


run(main)
