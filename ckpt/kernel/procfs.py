"""Parsers of /proc/PID: stat, status, maps, smaps, task lists."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

from ckpt.errors import KernelError, NoSuchTask
from ckpt.kernel import xfeatures
from ckpt.kernel.libc import kernel_error
from ckpt.kernel.standins import entry


def read_bytes(path: str, pid: int) -> bytes:
    """A whole file of /proc; a task that is gone is NoSuchTask."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            parts = []
            while part := os.read(fd, 1 << 16):
                parts.append(part)
            return b"".join(parts)
        finally:
            os.close(fd)
    except (FileNotFoundError, ProcessLookupError):
        raise NoSuchTask(f"there is no task {pid} (any more)", hint="check the pid with ps") from None
    except OSError as error:
        raise kernel_error(f"reading {path}", error.errno or 0) from None


@dataclass(frozen=True, slots=True)
class Stat:
    """What ckpt needs of /proc/PID/stat (proc(5) numbers from 1)."""

    pid: int
    comm: str
    state: str  # 3
    ppid: int  # 4
    pgid: int  # 5
    sid: int  # 6
    tty_nr: int  # 7
    tpgid: int  # 8
    flags: int  # 9
    start_time: int  # 22
    start_code: int  # 26
    end_code: int  # 27
    start_stack: int  # 28
    exit_signal: int  # 38
    start_data: int  # 45
    end_data: int  # 46
    start_brk: int  # 47
    arg_start: int  # 48
    arg_end: int  # 49
    env_start: int  # 50
    env_end: int  # 51
    exit_code: int  # 52

    @property
    def is_kernel_thread(self) -> bool:
        return bool(self.flags & 0x00200000)  # PF_KTHREAD, include/linux/sched.h


_NUMBERS = (4, 5, 6, 7, 8, 9, 22, 26, 27, 28, 38, 45, 46, 47, 48, 49, 50, 51, 52)  # those of Stat behind its state


def stat(pid: int, tid: int | None = None) -> Stat:
    """/proc/PID/stat, or of one of its threads."""
    path = f"/proc/{pid}/stat" if tid is None else f"/proc/{pid}/task/{tid}/stat"
    text = read_bytes(path, pid).decode("utf-8", "surrogateescape")
    open_, close = text.index("("), text.rindex(")")
    f = text[close + 2 :].split()  # f[i - 3] is field i
    return Stat(int(text[:open_]), text[open_ + 1 : close], f[0], *[int(f[at - 3]) for at in _NUMBERS])


def is_io_worker(pid: int, tid: int) -> bool:
    """Whether a thread is one of the kernel's, which works for an io_uring of the process and never runs its code."""
    try:  # its name is read in half the time of the flags, and nobody changes it
        if not read_bytes(f"/proc/{pid}/task/{tid}/comm", pid).startswith(b"iou-"):
            return False
        return bool(stat(pid, tid).flags & 0x00000010)  # PF_IO_WORKER, include/linux/sched.h
    except NoSuchTask:
        return False


def birth(pid: int) -> tuple[int, int, int]:
    """(start_time, start_code, start_stack) of `stat` alone: what identifies a task and its program."""
    f = read_bytes(f"/proc/{pid}/stat", pid).rpartition(b")")[2].split()
    return int(f[22 - 3]), int(f[26 - 3]), int(f[28 - 3])


def state(pid: int, tid: int | None = None) -> str:
    """The state in /proc/PID/stat alone."""
    text = read_bytes(f"/proc/{pid}/stat" if tid is None else f"/proc/{pid}/task/{tid}/stat", pid)
    return chr(text[text.rindex(b")") + 2])


def status(pid: int, tid: int | None = None) -> dict[str, str]:
    """/proc/PID/status (or of a thread) as key -> value."""
    path = f"/proc/{pid}/status" if tid is None else f"/proc/{pid}/task/{tid}/status"
    lines = read_bytes(path, pid).decode("utf-8", "surrogateescape").split("\n")  # a comm may hold a form feed
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines if line)}


def threads(pid: int) -> list[int]:
    """The tids of a process, the leader first."""
    try:
        tids = sorted(int(name) for name in os.listdir(f"/proc/{pid}/task"))
    except (FileNotFoundError, ProcessLookupError):
        raise NoSuchTask(f"there is no task {pid} (any more)", hint="check the pid with ps") from None
    except OSError as error:
        raise kernel_error(f"reading /proc/{pid}/task", error.errno or 0) from None
    if pid in tids:
        tids.remove(pid)
        tids.insert(0, pid)
    return tids


def children(pid: int, tids: list[int]) -> list[int]:
    """The direct children of every given thread of a process (zombies too)."""
    found: list[int] = []
    for tid in tids:
        try:
            found += map(int, read_bytes(f"/proc/{pid}/task/{tid}/children", pid).split())
        except NoSuchTask:
            continue
    return found


def link(path: str) -> str:
    """readlink of a magic link, KernelError when it cannot be read."""
    try:
        return os.readlink(path)
    except OSError as error:
        raise kernel_error(f"readlink {path}", error.errno or 0) from None


def exists(pid: int) -> bool:
    """Whether the pid (of a process or thread) is in use."""
    return Path(f"/proc/{pid}").exists()


@dataclass(frozen=True, slots=True)
class MapsLine:
    """One line of /proc/PID/maps, with the VmFlags and the ProtectionKey of smaps when they were read."""

    start: int
    end: int
    perms: str  # "rw-p"
    offset: int
    dev: int
    ino: int
    path: str
    vm_flags: tuple[str, ...] = ()
    pkey: int = 0

    @property
    def prot(self) -> int:
        p = self.perms
        return (p[0] == "r") * 1 | (p[1] == "w") * 2 | (p[2] == "x") * 4

    @property
    def shared(self) -> bool:
        return self.perms[3] == "s"


def _unescape(path: str) -> str:
    return path.replace("\\012", "\n")


@cache
def _device(text: str) -> int:
    major, _, minor = text.partition(":")
    return os.makedev(int(major, 16), int(minor, 16))


@cache
def _flags(text: str) -> tuple[str, ...]:
    return tuple(text.split())


@lru_cache(maxsize=1 << 14)  # the tasks of a tree have most of them in common, and smaps repeats what maps said
def _fields(line: str) -> tuple[int, int, str, int, int, int, str]:
    address, perms, offset, device, ino, *path = line.split(None, 5)
    start, _, end = address.partition("-")
    name = _unescape(path[0]) if path else ""
    return int(start, 16), int(end, 16), perms, int(offset, 16), _device(device), int(ino), name


def _parse(line: str, flags: tuple[str, ...] = (), pkey: int = 0) -> MapsLine:
    return MapsLine(*_fields(line), flags, pkey)


def _text(pid: int, name: str) -> str:
    # Not splitlines: a path may hold what Python takes for the end of a line.
    return read_bytes(f"/proc/{entry(pid)}/{name}", pid).decode("utf-8", "surrogateescape")


def maps_text(pid: int) -> str:
    """/proc/PID/maps as it is; cheap: about 1 µs a line in the kernel, and less than the parser takes."""
    return _text(pid, "maps")


def parse_maps(text: str) -> list[MapsLine]:
    """The mappings that a text of /proc/PID/maps names."""
    return [_parse(line) for line in text.split("\n") if line]


def maps(pid: int) -> list[MapsLine]:
    """/proc/PID/maps, parsed."""
    return parse_maps(maps_text(pid))


def smaps(pid: int) -> list[MapsLine]:
    """/proc/PID/smaps: the maps with their VmFlags. Walks the page tables: not for a short freeze."""
    result: list[MapsLine] = []
    keys = xfeatures.protection_keys()
    # The flags are the last of a mapping's lines, after its key; the next mapping's first line follows them.
    first, *rest = _text(pid, "smaps").split("\nVmFlags: ")
    head = first.partition("\n")[0]
    before = first
    for part in rest:
        flags, _, following = part.partition("\n")
        key = before.rpartition("\nProtectionKey:")[2] if keys else "0"
        result.append(_parse(head, _flags(flags), int(key)))
        head = following[: following.find("\n")]
        before = following
    return result


def page_size(pid: int, start: int) -> int:
    """The size in bytes of the pages of the mapping at `start` (KernelPageSize in smaps); 0 when there is none."""
    lines = f"\n{_text(pid, 'smaps')}".partition(f"\n{start:08x}-")[2]
    found = lines.partition("\nKernelPageSize:")[2].split(maxsplit=1)
    return int(found[0]) << 10 if found else 0


def max_map_count() -> int:
    """How many mappings an address space may have."""
    with open("/proc/sys/vm/max_map_count") as file:
        return int(file.read())


@functools.cache  # asked for in every freeze, and for the life of this process the same
def boot_id() -> str:
    """The identity of this boot."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError as error:
        raise KernelError(f"cannot read the boot id: {error}") from None
