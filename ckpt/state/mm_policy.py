"""The NUMA policies of mappings (mbind)."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from ckpt.errors import KernelError, NoSuchTask
from ckpt.kernel import procfs, uapi
from ckpt.kernel.standins import entry
from ckpt.records.mm import Vma
from ckpt.records.seams import LiveTask
from ckpt.records.state import NumaPolicy
from ckpt.state.mm_map import Mapper

_NODES = 1024  # bits of a node mask: the most that the kernel can be built for
_AT_ONCE = 512  # mappings
_FEW = 500  # pages of a mapping, which are counted in less time than a call takes


def collect_policies(remote: LiveTask, starts: Sequence[int], nr_pages: int) -> dict[int, NumaPolicy]:
    """Of the mappings that begin at `starts`, those with a policy of their own; {} on a kernel without CONFIG_NUMA.

    A mapping without one answers MPOL_DEFAULT, whatever the thread's own is. /proc/PID/numa_maps leaves few to be
    asked for; it counts pages, and is read only where the task has not many, `nr_pages`, for its mappings.
    """
    found: dict[int, NumaPolicy] = {}
    without = _without(remote.pid) if nr_pages < _FEW * len(starts) else ()
    todo = [start for start in starts if start not in without]
    for at in range(0, len(todo), _AT_ONCE):
        part = todo[at : at + _AT_ONCE]
        room = remote.put(bytes(4 * len(part)))
        calls = [(uapi.SYS_get_mempolicy, room + 4 * n, 0, 0, start, uapi.MPOL_F_ADDR) for n, start in enumerate(part)]
        remote.run_all(calls)
        modes = struct.unpack(f"<{len(part)}i", remote.read(room, 4 * len(part)))
        found |= {start: _policy(remote, start) for start, mode in zip(part, modes, strict=True) if mode}
    return found


def _without(pid: int) -> frozenset[int]:
    """The mappings of which numa_maps says that neither they nor the task have a policy."""
    try:
        lines = procfs.read_bytes(f"/proc/{entry(pid)}/numa_maps", pid).split(b"\n")
    except (NoSuchTask, KernelError):
        return frozenset()  # no CONFIG_NUMA, or not for this user to read
    return frozenset(int(words[0], 16) for line in lines if (words := line.split(None, 2))[1:2] == [b"default"])


def _policy(remote: LiveTask, start: int) -> NumaPolicy:
    room = remote.put(bytes(8 + _NODES // 8))
    remote.syscall(uapi.SYS_get_mempolicy, room, room + 8, _NODES, start, uapi.MPOL_F_ADDR)
    mode = int.from_bytes(remote.read(room, 4), "little", signed=True)
    return NumaPolicy(mode, remote.read(room + 8, _NODES // 8).rstrip(b"\0"))


def restore_policy(mapper: Mapper, vma: Vma) -> None:
    """Before the mapping has pages, for they come from where it says."""
    policy = vma.policy
    if policy is None:
        return
    room = mapper.task.put(policy.nodes.ljust(_NODES // 8, b"\0")) if policy.nodes else 0
    nodes = _NODES if policy.nodes else 0
    mapper.call(vma, "mbind", uapi.SYS_mbind, vma.start, vma.end - vma.start, policy.mode, room, nodes, 0)
