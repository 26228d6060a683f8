"""Descriptors above a limit that was lowered afterwards; standard streams that are closed."""

import os
import resource

from target_api import DIR, checkpoint, child, exit_code, run, wait_for_go


def main():
    (DIR / "file").write_text("content")
    fd = os.open(DIR / "file", os.O_RDONLY)
    os.dup2(fd, 400)
    os.dup2(fd, 0)
    os.close(1)

    def other():
        os.close(0)
        os.close(2)
        wait_for_go()
        try:
            os.fstat(2)
            return 1
        except OSError:
            return os.pread(400, 9, 0) != b"content"

    pid = child(other)
    resource.setrlimit(resource.RLIMIT_NOFILE, (50, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    if checkpoint():
        os.close(0)
    assert exit_code(pid) == 0
    assert os.pread(400, 9, 0) == b"content" == os.pread(0, 9, 0)
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 50
    assert os.dup(fd) == 1


run(main)
