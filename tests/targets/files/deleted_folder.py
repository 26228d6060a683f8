"""Files and directories inside directories that were deleted, and the directories themselves."""

import os

from target_api import DIR, checkpoint, run


def main():
    deep = DIR / "a" / "b" / "c"
    deep.mkdir(parents=True)
    file = os.open(deep / "file", os.O_RDWR | os.O_CREAT)
    os.write(file, b"in nowhere")
    inner = os.open(deep, os.O_RDONLY | os.O_DIRECTORY)
    outer = os.open(DIR / "a", os.O_RDONLY | os.O_DIRECTORY)
    again = os.open(DIR / "a", os.O_PATH)
    os.unlink(deep / "file")
    for name in ("a/b/c", "a/b", "a"):
        os.rmdir(DIR / name)
    links = [os.readlink(f"/proc/self/fd/{fd}") for fd in (file, inner, outer)]
    if checkpoint():
        os.pwrite(file, b"?", 0)
    assert os.pread(file, 99, 0) == b"in nowhere" and os.fstat(file).st_nlink == 0
    assert links == [os.readlink(f"/proc/self/fd/{fd}") for fd in (file, inner, outer)]
    assert os.fstat(inner).st_nlink == 0 and os.fstat(outer).st_nlink == 0
    assert os.fstat(again).st_ino == os.fstat(outer).st_ino != os.fstat(inner).st_ino
    assert os.listdir(inner) == [] and not (DIR / "a").exists()
    try:
        os.open("new", os.O_CREAT | os.O_RDWR, dir_fd=inner)
    except FileNotFoundError:
        return
    raise AssertionError("a file was made in a directory that is gone")


run(main)
