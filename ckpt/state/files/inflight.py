"""Files in flight where recvmsg cannot look: the kernel's memory says which of the tree's open files they are."""

from __future__ import annotations

from collections.abc import Iterable

from ckpt.kernel.btf import kernel_types
from ckpt.kernel.kernel_memory import KernelMemory
from ckpt.state.context import CollectContext
from ckpt.state.files.registry import registry


def file_ids(context: CollectContext, addresses: Iterable[int]) -> dict[int, int]:
    """struct file -> file_id, of what a descriptor of the tree leads to. KernelError without the right to look."""
    wanted = set(addresses)
    found: dict[int, int] = {}
    if not wanted:
        return found
    with KernelMemory() as memory:
        inode, number = kernel_types().offset("file", "f_inode"), kernel_types().offset("inode", "i_ino")
        inodes = {memory.u64(memory.u64(file + inode) + number) for file in wanted}
        for view in list(registry(context).views.values()):
            if view.stat.st_ino in inodes and not view.magic:
                with view.stolen(context) as fd:
                    found[memory.file(fd)] = view.file_id
    return {file: found[file] for file in wanted if file in found}
