"""Odd positions: a removed directory read to its end, files of /proc whose text tells of other files."""

import os

from target_api import DIR, checkpoint, run


def target():
    os.mkdir(DIR / "folder")
    folder = os.open(DIR / "folder", os.O_RDONLY)
    while os.listdir(folder):
        pass
    os.lseek(folder, 0, os.SEEK_END)
    end = os.lseek(folder, 0, os.SEEK_CUR)
    os.rmdir(DIR / "folder")
    texts = {}
    for name in ("fdinfo/0", f"fdinfo/{folder}", "status", "maps", "limits", "mountinfo", "cmdline"):
        fd = os.open(f"/proc/self/{name}", os.O_RDONLY)
        os.read(fd, 13)
        texts[name] = fd
    checkpoint()
    assert os.lseek(folder, 0, os.SEEK_CUR) in (end, 0)
    for name, fd in texts.items():
        assert os.lseek(fd, 0, os.SEEK_CUR) == 13, name
        with open(f"/proc/self/{name}", "rb") as again:
            again.seek(13)
            want = again.read(40)
        got = os.read(fd, 40)
        assert got[: len(want)] == want, (name, got, want)


run(target)
