"""The NUMA policies of mappings (mbind)."""

from __future__ import annotations

from collections.abc import Iterable

from ckpt.errors import KernelError
from ckpt.kernel import uapi
from ckpt.records.mm import Vma
from ckpt.records.seams import RemoteTask
from ckpt.records.state import NumaPolicy
from ckpt.state.mm_map import Mapper

_NODES = 1024  # bits of a node mask: the most that the kernel can be built for


def collect_policies(remote: RemoteTask, starts: Iterable[int]) -> dict[int, NumaPolicy]:
    """Of the mappings that begin at `starts`, those with a policy of their own; {} on a kernel without CONFIG_NUMA.

    A mapping without one answers MPOL_DEFAULT, whatever the thread's own is. (/proc/PID/numa_maps would count pages.)
    """
    found: dict[int, NumaPolicy] = {}
    room = remote.put(bytes(8 + _NODES // 8))
    for start in starts:
        try:
            remote.syscall(uapi.SYS_get_mempolicy, room, room + 8, _NODES, start, uapi.MPOL_F_ADDR)
        except KernelError:
            return found
        mode = int.from_bytes(remote.read(room, 4), "little", signed=True)
        if mode:
            found[start] = NumaPolicy(mode, remote.read(room + 8, _NODES // 8).rstrip(b"\0"))
    return found


def restore_policy(mapper: Mapper, vma: Vma) -> None:
    """Before the mapping has pages, for they come from where it says."""
    policy = vma.policy
    if policy is None:
        return
    room = mapper.task.put(policy.nodes.ljust(_NODES // 8, b"\0")) if policy.nodes else 0
    nodes = _NODES if policy.nodes else 0
    mapper.call(vma, "mbind", uapi.SYS_mbind, vma.start, vma.end - vma.start, policy.mode, room, nodes, 0)
