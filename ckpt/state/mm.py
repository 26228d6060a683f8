"""Collecting address spaces: which tasks share one, what a tracker may watch, the record that restore builds from."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ckpt.errors import KernelError
from ckpt.kernel import procfs, uapi
from ckpt.kernel.descriptors import kcmp
from ckpt.kernel.memory import Memory
from ckpt.kernel.procfs import MapsLine
from ckpt.records.mm import MmRecord, ShmRecord, Vma
from ckpt.records.runs import U64
from ckpt.records.seams import RemoteTask
from ckpt.records.support import Support
from ckpt.state import prctl
from ckpt.state.context import CollectContext, FrozenTaskLike
from ckpt.state.files.collect import collect_mapped_file

SUPPORT = Support(
    "memory",
    "mappings",
    "private and shared, files, guard pages, PROT_NONE, madvise, mlock, mseal, huge pages, names, brk, auxv, exe",
)

MEMBARRIER_CMD_GET_REGISTRATIONS = 512  # include/uapi/linux/membarrier.h, 6.3
_SPECIAL = ("[vdso", "[vvar", "[vsyscall", "[uprobes")
_ANON_SHARED = ("/dev/zero (deleted)", "/memfd:", "/SYSV")


def backing(line: MapsLine) -> str:
    """anon, file, shm or special."""
    path = line.path
    if path.startswith(_SPECIAL):
        return "special"
    if line.shared:
        return "shm" if path.startswith(_ANON_SHARED) else "file"
    if not line.ino or path.startswith("/anon_hugepage") or path == "/dev/zero":
        return "anon"
    return "file"


@dataclass
class Mm:
    """One address space of a frozen tree, as a tracker sees it (MmAccess)."""

    task: FrozenTaskLike
    pids: list[int]  # every task that uses it
    lines: list[MapsLine]
    mm_key: str
    ranges: U64
    vma_keys: Sequence[str]

    @property
    def pid(self) -> int:
        return self.task.pid

    @property
    def space(self) -> str:
        return f"mm:{self.task.pid}"

    def remote(self) -> RemoteTask:
        return self.task.remote()


def identity(pid: int) -> str:
    """Changes when the task executes another program, or the pid is another task's."""
    stat = procfs.stat(pid)
    auxv = hashlib.blake2b(procfs.read_bytes(f"/proc/{pid}/auxv", pid), digest_size=8).hexdigest()
    return f"{pid}:{stat.start_time}:{stat.start_code:x}:{stat.start_stack:x}:{auxv}"


def address_spaces(tasks: Sequence[FrozenTaskLike]) -> list[Mm]:
    """The distinct address spaces of the tasks; tasks that share one (CLONE_VM) are found by kcmp."""
    found: list[Mm] = []
    for task in tasks:
        key = identity(task.pid)
        shape = key.split(":", 2)[2]
        for other in found:
            if other.mm_key.split(":", 2)[2] == shape and kcmp(task.pid, other.pid, uapi.KCMP_VM) == 0:
                other.pids.append(task.pid)
                break
        else:
            found.append(_mm(task, key))
    return found


def _mm(task: FrozenTaskLike, key: str) -> Mm:
    lines = procfs.maps(task.pid)
    private = [(line, kind) for line in lines if not line.shared and (kind := backing(line)) != "special"]
    ranges = np.array([(line.start, line.end) for line, _ in private], np.uint64).reshape(-1, 2)
    keys = []
    for line, kind in private:
        tracked = "anon" if kind == "anon" and not line.ino else "file"
        keys.append(f"{tracked}:{line.perms}:{line.dev}:{line.ino}:{line.offset}:{line.prot}")
    return Mm(task, [task.pid], lines, key, ranges, keys)


def shared_objects(mms: Sequence[Mm]) -> dict[str, tuple[Mm, MapsLine]]:
    """Space key -> one mapping of each shared memory object of the tree that has no file of its own."""
    objects: dict[str, tuple[Mm, MapsLine]] = {}
    for mm in mms:
        for line in mm.lines:
            if backing(line) == "shm":
                objects.setdefault(shm_key(line), (mm, line))
    return objects


def shm_key(line: MapsLine) -> str:
    """The space key of the object behind a shared mapping."""
    return f"shm:{line.dev}:{line.ino}"


def collect_mm(mm: Mm, context: CollectContext) -> MmRecord:
    """Everything about an address space but its pages; shared objects are noted in `context.shared["shm"]`."""
    pid = mm.pid
    stat = procfs.stat(pid)
    vmas = tuple(_vma(mm, line, context) for line in procfs.smaps(pid))
    remote = mm.remote()
    status = procfs.status(pid, mm.task.tids[0])
    exe_link = f"/proc/{pid}/exe"
    return MmRecord(
        mm_id=pid,
        space=mm.space,
        vmas=vmas,
        start_code=stat.start_code,
        end_code=stat.end_code,
        start_data=stat.start_data,
        end_data=stat.end_data,
        start_brk=stat.start_brk,
        brk=remote.syscall(uapi.SYS_brk, 0),
        start_stack=stat.start_stack,
        arg_start=stat.arg_start,
        arg_end=stat.arg_end,
        env_start=stat.env_start,
        env_end=stat.env_end,
        auxv=procfs.read_bytes(f"/proc/{pid}/auxv", pid),
        exe=procfs.link(exe_link),
        exe_file_id=collect_mapped_file(context, pid, exe_link, os.O_RDONLY),
        thp_disable=prctl.collect_thp_disable(remote),
        dumpable=prctl.collect_dumpable(remote, status),
        vdso_hash=_vdso_hash(mm),
        membarrier=_membarrier(remote),
    )


def _membarrier(remote: RemoteTask) -> int:
    try:
        return remote.syscall(uapi.SYS_membarrier, MEMBARRIER_CMD_GET_REGISTRATIONS, 0, 0)
    except KernelError:
        return 0  # before 6.3 they cannot be read


def _vdso_hash(mm: Mm) -> bytes:
    line = next((line for line in mm.lines if line.path == "[vdso]"), None)
    if line is None:
        return b""
    with Memory(mm.pid) as memory:
        return hashlib.blake2b(memory.read(line.start, line.end - line.start), digest_size=16).digest()


def _vma(mm: Mm, line: MapsLine, context: CollectContext) -> Vma:
    kind = backing(line)
    shm = file_id = None
    size = mtime = 0
    magic = f"/proc/{mm.pid}/map_files/{line.start:x}-{line.end:x}"
    subject = f"vma {line.start:x}-{line.end:x}"
    if kind == "shm":
        shm = shm_key(line)
        note_object(context, mm.pid, line, magic)
    elif kind == "file":
        flags = os.O_RDWR if line.shared and "mw" in line.vm_flags and "w" in line.perms else os.O_RDONLY
        try:
            file_id = collect_mapped_file(context, mm.pid, magic, flags, (line.dev, line.ino, line.path))
            found = os.stat(magic)
            size, mtime = found.st_size, found.st_mtime_ns
        except (KernelError, OSError) as error:
            context.refuse(mm.pid, subject, f"maps {line.path}, which cannot be looked at: {error}", "run ckpt as root")
    if "ss" in line.vm_flags:
        context.refuse(mm.pid, subject, "is a shadow stack")
    if ("io" in line.vm_flags or "pf" in line.vm_flags) and kind != "special":
        context.refuse(mm.pid, subject, f"maps the memory of a device ({line.path})")
    return Vma(
        line.start, line.end, line.prot, line.shared, line.offset, line.path, line.dev, line.ino,
        line.vm_flags, kind, shm, file_id, size, mtime,
    )  # fmt: skip


def note_object(context: CollectContext, pid: int, line: MapsLine, magic: str) -> None:
    """Note the shared memory object behind a mapping, once; a memfd that is open was noted with its descriptor."""
    objects: dict[str, ShmRecord] = context.shared.setdefault("shm", {})
    key = shm_key(line)
    if key in objects:
        return
    try:
        size = os.stat(magic).st_size
    except OSError as error:
        context.refuse(
            pid, f"vma {line.start:x}-{line.end:x}", f"is shared memory, which cannot be opened: {error.strerror}",
            "run ckpt as root",
        )  # fmt: skip
        return
    if line.path.startswith("/memfd:"):
        name = line.path.removeprefix("/memfd:").removesuffix(" (deleted)")
        objects[key] = ShmRecord(key, size, "memfd", name, 0)
    elif line.path.startswith("/SYSV"):
        objects[key] = ShmRecord(key, size, "sysv", line.path, sysv_id=line.ino)
        context.refuse(pid, f"vma {line.start:x}-{line.end:x}", "is SysV shared memory", "detach it before the dump")
    else:
        objects[key] = ShmRecord(key, size, "anon")
