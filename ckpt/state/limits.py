"""Resource limits."""

from __future__ import annotations

from collections.abc import Sequence

from ckpt.errors import KernelError, RestoreError
from ckpt.kernel import taskinfo, uapi
from ckpt.kernel import uapi_state as us
from ckpt.records.seams import RemoteTask
from ckpt.records.state import ResourceLimit
from ckpt.records.support import Support
from ckpt.state.rebuild import rebuilding

SUPPORT = Support("identity", "resource limits", "all sixteen")


def collect_limits(pid: int) -> tuple[ResourceLimit, ...]:
    """All sixteen."""
    return tuple(ResourceLimit(number, soft, hard) for number, (soft, hard) in enumerate(taskinfo.limits(pid)))


def raise_limits(remote: RemoteTask, record: Sequence[ResourceLimit]) -> None:
    """Early: refuse what cannot be reached, and lift the soft limits so that none is in the way of the rebuilding."""
    current = taskinfo.limits(remote.pid)
    for limit in record:
        soft, hard = current[limit.resource]
        top = max(hard, limit.hard)
        if top > hard or soft < top:
            _set(remote, limit.resource, top, top, hard)


def restore_limits(remote: RemoteTask, record: Sequence[ResourceLimit]) -> None:
    """Late: the limits as they were. Equal ones are not touched."""
    current = taskinfo.limits(remote.pid)
    for limit in record:
        if current[limit.resource] != (limit.soft, limit.hard):
            _set(remote, limit.resource, limit.soft, limit.hard, current[limit.resource][1])


def _set(remote: RemoteTask, resource: int, soft: int, hard: int, current: int) -> None:
    name = us.RLIM_NAMES[resource]
    try:
        taskinfo.set_limit(remote.pid, resource, soft, hard)
        return
    except KernelError as error:
        outside = error
    if hard > current:
        raise RestoreError(
            f"task {remote.pid}: {name} had the hard limit {_text(hard)}, "
            f"but only {_text(current)} is allowed here: {outside.message}",
            hint=f"raise the hard limit of {name} before starting ckpt, or give ckpt CAP_SYS_RESOURCE",
        ) from outside
    # Another user's limits cannot be set from outside without CAP_SYS_RESOURCE; the task may lower its own.
    with rebuilding(remote.pid, name):
        new = remote.put(us.rlimit64.pack(soft, hard))
        remote.syscall(uapi.SYS_prlimit64, 0, resource, new, 0)


def _text(limit: int) -> str:
    return "unlimited" if limit == us.RLIM_INFINITY else str(limit)
