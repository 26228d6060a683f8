"""Cgroups that are frozen (cgroup.freeze, or freezer.state in version 1): their tasks run no code, for nobody."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from ckpt.kernel import taskinfo


def frozen_one(lines: Iterable[str]) -> str:
    """The first frozen cgroup among lines of /proc/PID/cgroup, as they name it; empty when there is none."""
    mounts = taskinfo.cgroup_mounts()
    for line in lines:
        _, controllers, path = line.split(":", 2)
        mount = mounts.get(",".join(sorted(controllers.split(","))))
        if mount is not None and is_frozen(mount, controllers, path):
            return path
    return ""


def is_frozen(mount: str, controllers: str, path: str) -> bool:
    """Whether it, or one above it, is frozen or about to be."""
    if controllers:
        return "freezer" in controllers.split(",") and _read(f"{mount}{path}/freezer.state") in ("FROZEN", "FREEZING")
    places = (PurePosixPath(path), *PurePosixPath(path).parents)
    return any(_read(f"{mount}{place}/cgroup.freeze") == "1" for place in places)


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""  # the root cgroup, or one that is not visible from here
