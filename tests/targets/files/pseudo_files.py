"""Files of tmpfs, sysfs, cgroup, devtmpfs and /proc, read in the middle."""

import os

from target_api import DIR, checkpoint, run


def main():
    paths = ["/proc/self/maps", "/proc/cpuinfo", "/proc/self/mountinfo", "/proc/sys/kernel/pid_max"]
    for path in ("/sys/kernel/mm/transparent_hugepage/enabled", "/sys/fs/cgroup/cgroup.controllers"):
        if os.path.exists(path):
            paths.append(path)
    shm = f"/dev/shm/ckpt-target-{os.getpid()}"
    with open(shm, "w") as stream:
        stream.write("in a tmpfs")
    fds = {path: os.open(path, os.O_RDONLY) for path in [*paths, shm, "/dev", "/proc/self/fd", "/sys/kernel"]}
    positions = {}
    for path in [*paths, shm]:
        os.read(fds[path], 4)
        positions[path] = os.lseek(fds[path], 0, 1)
    try:
        if checkpoint():
            os.lseek(fds[shm], 0, 0)
        assert {path: os.lseek(fds[path], 0, 1) for path in positions} == positions
        assert os.read(fds[shm], 99) == b" tmpfs", "the tmpfs"
        for path in paths:
            assert os.readlink(f"/proc/self/fd/{fds[path]}").split("/")[-1] == path.split("/")[-1]
            os.read(fds[path], 4096)
        assert "null" in os.listdir(fds["/dev"])
        assert str(fds[shm]) in os.listdir(fds["/proc/self/fd"])
    finally:
        os.unlink(shm)
    assert DIR.exists()


run(main)
