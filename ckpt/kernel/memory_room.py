"""How much more memory tasks can take before the kernel kills one of them: by the host, and by their memory cgroups."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from ckpt.kernel import taskinfo

# (limit, usage) of a cgroup: version 2, then version 1 without and with swap.
_V2 = (("memory.max", "memory.current"),)
_V1 = (
    ("memory.limit_in_bytes", "memory.usage_in_bytes"),
    ("memory.memsw.limit_in_bytes", "memory.memsw.usage_in_bytes"),
)


def available() -> int:
    """Bytes that the host can give without swapping (MemAvailable)."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) << 10
    return 1 << 62


def left(lines: Iterable[str]) -> int:
    """Bytes until the nearest limit of the memory cgroups among lines of /proc/PID/cgroup.

    Pages of files that nobody has used for long count as free. A limit that is not visible from here is none.
    """
    mounts = taskinfo.cgroup_mounts()
    room = 1 << 62
    for line in lines:
        _, controllers, path = line.split(":", 2)
        mount = mounts.get(",".join(sorted(controllers.split(","))))
        if mount is None or (controllers and "memory" not in controllers.split(",")):
            continue
        for place in (PurePosixPath(path), *PurePosixPath(path).parents):
            for limit, usage in _V1 if controllers else _V2:
                room = min(room, _between(f"{mount}{place}", limit, usage))
    return room


def _between(directory: str, limit: str, usage: str) -> int:
    try:
        most = Path(directory, limit).read_text()
        if not most.strip().isdigit():  # "max"
            return 1 << 62
        used = int(Path(directory, usage).read_text())
        statistics = Path(directory, "memory.stat").read_text()
    except OSError:
        return 1 << 62
    idle = 0
    for line in statistics.splitlines():
        name, _, value = line.partition(" ")
        if name in ("inactive_file", "total_inactive_file"):  # version 1 has both, the second with what is below
            idle = max(idle, int(value))
    return int(most) - used + idle
