"""Ways to the file behind a mapping: /proc/PID/map_files for the privileged, other names of the same file for all.

Following map_files needs CAP_CHECKPOINT_RESTORE in the first user namespace, whoever owns the task.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import cache

from ckpt.errors import NoSuchTask
from ckpt.kernel import procfs
from ckpt.kernel.procfs import MapsLine
from ckpt.kernel.standins import entry


@cache
def map_files_allowed() -> bool:
    """Whether this process may follow /proc/PID/map_files."""
    pid = os.getpid()
    line = next(line for line in procfs.maps(pid) if line.ino)
    return _is(map_file(pid, line), line)


def map_file(pid: int, line: MapsLine) -> str:
    """The magic link of a mapping."""
    return f"/proc/{entry(pid)}/map_files/{line.start:x}-{line.end:x}"


def way_to(pid: int, line: MapsLine, others: Iterable[int] = ()) -> str | None:
    """A path that leads to the file behind a mapping of `pid`; None when this user has none.

    Without map_files the executable, the name in maps, and the descriptors of the task and of `others` are tried.
    """
    if map_files_allowed():
        return map_file(pid, line)
    for path in (f"/proc/{entry(pid)}/exe", line.path, line.path.replace("\n", "\\012")):  # maps shows both alike
        if path.startswith("/") and _is(path, line):
            return path
    for holder in dict.fromkeys(entry(one) for one in (pid, *others)):
        try:
            numbers = os.listdir(f"/proc/{holder}/fd")
        except OSError:
            continue
        for number in numbers:
            if _is(f"/proc/{holder}/fd/{number}", line):
                return f"/proc/{holder}/fd/{number}"
    return None


def _is(path: str, line: MapsLine) -> bool:
    """Whether the path leads to the mapping's file.

    Some file systems (overlayfs, btrfs) show another device in maps than in stat; the name must be the same there,
    for an inode number alone is many files'.
    """
    try:
        found = os.stat(path)
        if found.st_ino != line.ino:
            return False
        if found.st_dev == line.dev:
            return True
        name = os.readlink(path) if path.startswith("/proc/") else path
    except OSError:
        return False
    return not os.major(line.dev) and name == line.path


def on_tmpfs(dev: int) -> bool:
    """Whether the device is that of a mounted tmpfs, whose files lie in memory alone."""
    name = f"{os.major(dev)}:{os.minor(dev)}"
    for line in procfs.read_bytes("/proc/self/mountinfo", os.getpid()).decode("utf-8", "surrogateescape").splitlines():
        before, _, after = line.partition(" - ")
        if before.split()[2] == name:
            return after.split()[0] == "tmpfs"
    return False


def swap_in_use() -> bool:
    """Whether anything is swapped out: mincore then does not tell which pages of shared memory hold data."""
    try:
        lines = procfs.read_bytes("/proc/meminfo", os.getpid()).decode().splitlines()
    except NoSuchTask:
        return True
    values = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines) if rest}
    return values.get("SwapTotal", 1) != values.get("SwapFree", 0)
