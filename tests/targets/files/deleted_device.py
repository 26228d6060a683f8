"""A device node of the task's own, deleted while it is open."""

import os
import stat

from target_api import DIR, Skip, checkpoint, run


def main():
    path = DIR / "zero"
    try:
        os.mknod(path, stat.S_IFCHR | 0o640, os.makedev(1, 5))
        fd = os.open(path, os.O_RDWR)
    except OSError as error:
        raise Skip(f"no device nodes here: {error}") from error
    os.chmod(path, 0o626)  # which an umask would not let it have
    os.chown(path, 1, 2)
    os.unlink(path)
    null = os.open("/dev/null", os.O_RDWR)
    if checkpoint():
        os.dup2(null, fd)
    found = os.fstat(fd)
    assert (stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid) == (0o626, 1, 2)
    assert os.read(fd, 5) == bytes(5) and os.fstat(fd).st_rdev == os.makedev(1, 5)
    assert os.readlink(f"/proc/self/fd/{fd}") == f"{path} (deleted)" and not path.exists()


run(main)
