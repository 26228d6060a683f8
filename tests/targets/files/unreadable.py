"""Files that the task could not open again: mode 000, another's, a mode that was changed after the open."""

import os

from target_api import DIR, checkpoint, run


def main():
    for name in ("none", "others", "readonly"):
        (DIR / name).write_text(name)
    none = os.open(DIR / "none", os.O_RDONLY)
    others = os.open(DIR / "others", os.O_RDWR)
    readonly = os.open(DIR / "readonly", os.O_RDWR)
    os.chmod(DIR / "none", 0)
    os.chown(DIR / "others", 1234, 1234)
    os.chmod(DIR / "others", 0o600)
    os.chmod(DIR / "readonly", 0o444)
    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)
    if checkpoint():
        os.pwrite(others, b"x", 0)
    assert os.read(none, 9) == b"none" and os.read(others, 9) == b"others"
    assert os.pwrite(readonly, b"R", 0) == 1 and os.pread(readonly, 9, 0) == b"Readonly"
    try:
        os.open(DIR / "none", os.O_RDONLY)
    except PermissionError:
        return
    raise AssertionError("a privilege came back")


run(main)
