"""What is checked before restore creates anything: the image, free numbers, host, files, privileges."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from ckpt.errors import FileChanged, HostMismatch, ImageError, KernelError, NoSuchTask, PidTaken, RestoreError
from ckpt.kernel import procfs, uapi
from ckpt.kernel import ptrace_requests as ptrace
from ckpt.records.files import FileRecord
from ckpt.records.mm import MmRecord, Vma
from ckpt.records.seams import ImageView
from ckpt.records.task import TaskRecord, ThreadRecord
from ckpt.trace.skeleton import Skeleton, reap
from ckpt.trace.spawn import spawn_skeleton

_XFEATURES = slice(464, 472)  # sw_reserved of the FXSAVE area: what the CPU and kernel support
_XSTATE_BV = slice(512, 520)  # the XSAVE header: what is in use
_DELETED = " (deleted)"
ZOMBIE_PATIENCE = 10.0  # seconds


def check_image(view: ImageView) -> None:
    """The image holds tasks and is of this architecture and page size."""
    header = view.header
    if header.kind == "pre-dump" or not view.records("task"):
        raise ImageError(
            f"round {header.round} is a pre-dump: it holds memory, but no tasks",
            hint="restore a round made by ckpt dump (ckpt show lists them), with --at",
        )
    if header.arch != os.uname().machine:
        raise HostMismatch(f"the image is of architecture {header.arch}, this host is {os.uname().machine}")
    if header.page_size != uapi.PAGE_SIZE:
        raise HostMismatch(f"the image has pages of {header.page_size} bytes, this host of {uapi.PAGE_SIZE}")
    if not view.records("tree"):
        raise ImageError("the image holds tasks but no tree record", hint="verify the chain")


def check_numbers(numbers: Collection[int], patience: float = ZOMBIE_PATIENCE) -> None:
    """No pid, tid, session or process group of the tree is in use. PidTaken names the number and its holder.

    A number that only a zombie holds is about to be free: its parent, or init, which some hosts let sleep for
    seconds, is given `patience` seconds to reap it.
    """
    limit = int(Path("/proc/sys/kernel/pid_max").read_text())
    if numbers and max(numbers) >= limit:
        raise PidTaken(
            f"pid {max(numbers)} is beyond this host's kernel.pid_max of {limit}",
            hint=f"sysctl kernel.pid_max={2 * max(numbers)}",
        )
    end = time.monotonic() + patience
    while holder := _holder_of(frozenset(numbers)):
        if not holder.dead or time.monotonic() > end:
            raise PidTaken(holder.message, hint=holder.hint)
        time.sleep(0.01)


def is_free(number: int, patience: float = ZOMBIE_PATIENCE) -> bool:
    """Whether a pid, session and group of that number can be made; zombies are waited for as in `check_numbers`."""
    end = time.monotonic() + patience
    while holder := _holder_of({number}):
        if not holder.dead or time.monotonic() > end:
            return False
        time.sleep(0.01)
    return 0 < number < int(Path("/proc/sys/kernel/pid_max").read_text())


@dataclass(frozen=True, slots=True)
class _Holder:
    """A process that has one of the numbers, or is in a session or group of that number."""

    message: str
    hint: str
    dead: bool


def _holder_of(numbers: Collection[int]) -> _Holder | None:
    """Who stands in the way; a living process before a zombie."""
    dead: _Holder | None = None
    for name in os.listdir("/proc"):
        if not name.isdecimal():
            continue
        try:
            stat = procfs.stat(int(name))
            others = [tid for tid in procfs.threads(stat.pid) if tid != stat.pid]
        except (NoSuchTask, KernelError):
            continue
        who = f"process {name} ({stat.comm})"
        taken = next((tid for tid in others if tid in numbers), 0)
        if stat.pid in numbers:
            message = f"pid {name} is in use by {who}"
        elif taken:
            message = f"pid {taken} is in use by a thread of {who}"
        elif stat.sid in numbers:
            message = f"pid {stat.sid} is in use: {who} is in session {stat.sid}"
        elif stat.pgid in numbers:
            message = f"pid {stat.pgid} is in use: {who} is in process group {stat.pgid}"
        else:
            continue
        if stat.state not in "ZX" or others:
            return _Holder(
                message, "end that process, or restore with --pidns: the same pids in a new pid namespace", False
            )
        hint = f"its parent, process {stat.ppid}, has to wait for it"
        dead = dead or _Holder(f"{message}, which has ended and is a zombie", hint, True)
    return dead


def check_files(mms: Sequence[MmRecord], files: Sequence[FileRecord], which: Callable[[str], bool]) -> None:
    """The files that are mapped or executed are there, with the size and time they had at the dump.

    `which` takes a path, and says whether it is looked at.
    """
    # One that is opened by its handle has another name by now, or none; it is looked at when it is opened.
    plain = {file.file_id for file in files if file.kind == "regular" and getattr(file.payload, "handle", None) is None}
    seen: set[tuple[str, int, int]] = set()
    for mm in mms:
        if mm.exe and which(mm.exe) and not mm.exe.endswith(_DELETED) and not Path(mm.exe).exists():
            raise FileChanged(f"task {mm.mm_id}: its executable {mm.exe} is gone", hint="put the file back")
        for vma in mm.vmas:
            key = (vma.name, vma.file_size, vma.file_mtime_ns)
            if vma.backing != "file" or not vma.name.startswith("/") or key in seen:
                continue
            seen.add(key)
            if vma.name.endswith(_DELETED) or vma.file_id not in plain or not which(vma.name):
                continue  # its content is in the image, it is no plain file, or not asked for
            _check_mapped(mm, vma)


def _check_mapped(mm: MmRecord, vma: Vma) -> None:
    where = f"task {mm.mm_id}: {vma.name}, mapped at {vma.start:x},"
    try:
        now = os.stat(vma.name)
    except OSError as error:
        raise FileChanged(f"{where} cannot be found: {error.strerror}", hint="put the file back") from None
    if vma.shared:
        return  # its pages are the file's own: what it holds now is what the task would see
    if (now.st_size, now.st_mtime_ns) != (vma.file_size, vma.file_mtime_ns):
        raise FileChanged(
            f"{where} has changed since the dump ({vma.file_size} bytes then, {now.st_size} now)",
            hint="put the old version back: pages that the task never wrote come from this file",
        )


def check_host(mms: Sequence[MmRecord], threads: Sequence[ThreadRecord], stub_address: int) -> None:
    """Extended registers and vdso are those of this host; also that this user may build tasks at all."""
    try:
        probe = spawn_skeleton(0, stub_address)
    except KernelError as error:
        raise RestoreError(f"no task can be built here: {error.message}", hint=error.hint) from None
    try:
        _check_xstate(threads, ptrace.getregset(probe.tid, uapi.NT_X86_XSTATE))
        _check_vdso(mms, probe)
    finally:
        probe.kill()
        reap([probe])


def _check_xstate(threads: Sequence[ThreadRecord], here: bytes) -> None:
    supported = int.from_bytes(here[_XFEATURES], "little")
    for thread in threads:
        area = thread.registers.xstate
        used = int.from_bytes(area[_XSTATE_BV], "little")
        lacking = used & ~supported
        if lacking or len(area) != len(here):
            what = f"features {lacking:#x}" if lacking else f"an area of {len(area)} bytes; here it has {len(here)}"
            raise HostMismatch(
                f"thread {thread.tid} of task {thread.pid} has extended registers that this CPU lacks: {what}",
                hint="restore on a host whose CPU has the same features (flags in /proc/cpuinfo)",
            )


def _check_vdso(mms: Sequence[MmRecord], probe: Skeleton) -> None:
    lines = {line.path: line for line in procfs.maps(probe.pid) if line.path.startswith(("[vdso", "[vvar"))}
    vdso = lines.get("[vdso]")
    here = b""
    if vdso is not None:
        data = probe.read(vdso.start, vdso.end - vdso.start)
        here = hashlib.blake2b(data, digest_size=16).digest()
    for mm in mms:
        unknown = [v.name for v in mm.vmas if v.backing == "special" and v.name.startswith(("[vdso", "[vv"))]
        strange = sorted(set(unknown) - set(lines))
        if (mm.vdso_hash and mm.vdso_hash != here) or strange:
            raise HostMismatch(
                f"task {mm.mm_id}: the vdso of this kernel ({os.uname().release}) is not the one it was made on"
                + (f" (no {', '.join(strange)})" if strange else ""),
                hint="restore on the kernel that the image was made on",
            )


def check_tasks(tasks: Sequence[TaskRecord], threads: Sequence[ThreadRecord], mms: Sequence[MmRecord]) -> None:
    """Every record that another one names is there."""
    tids = {thread.tid for thread in threads}
    spaces = {mm.mm_id for mm in mms}
    for task in tasks:
        if task.state == "zombie":
            continue
        missing = [tid for tid in task.tids if tid not in tids]
        if missing or task.mm_id not in spaces:
            what = f"thread {missing[0]}" if missing else "memory"
            raise ImageError(f"the image lacks the {what} of task {task.pid}", hint="verify the chain")
