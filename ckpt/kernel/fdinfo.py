"""/proc/PID/fd and /proc/PID/fdinfo: what a task has open, read with one call for each fact."""

from __future__ import annotations

import os
from dataclasses import dataclass

from ckpt.errors import NoSuchTask
from ckpt.kernel.libc import kernel_error
from ckpt.kernel.standins import entry

_CHUNK = 1 << 16


@dataclass(frozen=True, slots=True)
class OpenFd:
    """One descriptor of a task."""

    fd: int
    link: str
    stat: os.stat_result
    pos: int
    flags: int  # O_*, without O_CLOEXEC
    cloexec: bool
    info: dict[str, list[str]]  # every key of fdinfo -> the values of its lines, in order


def parse(text: str) -> dict[str, list[str]]:
    """The lines of an fdinfo file. Keys end at the first colon ("inotify wd", "tfd", "lock")."""
    info: dict[str, list[str]] = {}
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon:
            info.setdefault(key, []).append(value.strip())
    return info


def numbers(pid: int) -> list[int]:
    """The descriptor numbers of a task, ascending."""
    try:
        return sorted(map(int, os.listdir(f"/proc/{entry(pid)}/fd")))
    except (FileNotFoundError, ProcessLookupError):
        raise NoSuchTask(f"there is no task {pid} (any more)", hint="check the pid with ps") from None
    except OSError as error:
        raise kernel_error(f"reading /proc/{pid}/fd", error.errno or 0) from None


def read_info(pid: int, fd: int) -> dict[str, list[str]]:
    """/proc/PID/fdinfo/FD, parsed."""
    path = f"/proc/{entry(pid)}/fdinfo/{fd}"
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            parts = [os.read(handle, _CHUNK)]
            while len(parts[-1]) == _CHUNK:  # fdinfo is one seq_file record: a short read is the end
                parts.append(os.read(handle, _CHUNK))
        finally:
            os.close(handle)
    except OSError as error:
        raise kernel_error(f"reading {path}", error.errno or 0) from None
    return parse(b"".join(parts).decode("utf-8", "surrogateescape"))


def read_fd(pid: int, fd: int) -> OpenFd:
    """Everything that /proc says about one descriptor."""
    path = f"/proc/{entry(pid)}/fd/{fd}"
    try:
        link = os.readlink(path)
        stat = os.stat(path)
    except OSError as error:
        raise kernel_error(f"reading {path}", error.errno or 0) from None
    info = read_info(pid, fd)
    flags = int(info["flags"][0], 8)
    return OpenFd(fd, link, stat, int(info["pos"][0]), flags & ~os.O_CLOEXEC, bool(flags & os.O_CLOEXEC), info)
