"""Collecting the whole tree: tasks, threads, files and address spaces, with every refusal at once."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Sequence

from ckpt.errors import KernelError, NotDumpable
from ckpt.kernel import procfs, taskinfo, uapi
from ckpt.kernel import uapi_state as us
from ckpt.kernel.descriptors import Sharers, kcmp
from ckpt.kernel.namespaces import clock_offsets
from ckpt.records.seams import RemoteTask
from ckpt.records.support import Support
from ckpt.records.task import TaskRecord, ThreadRecord
from ckpt.records.tree import TreeRecord
from ckpt.state import rings, sockets, task_state, threads
from ckpt.state.context import CollectContext, FrozenTaskLike
from ckpt.state.files.collect import collect_files, table_of, thread_tables
from ckpt.state.mm import Mm, collect_mm
from ckpt.state.namespaces import check_namespaces
from ckpt.state.outsiders import check_outsiders
from ckpt.state.own_namespaces import collect_own
from ckpt.state.sysv_queues import collect_queues
from ckpt.state.zombies import collect_zombie
from ckpt.trace.freezer import FrozenTree
from ckpt.trace.frozen import FrozenTask
from ckpt.trace.vforks import HeldRemote

SUPPORT = Support(
    "tasks",
    "trees",
    "parents, sessions, process groups (also of dead leaders), "
    "stopped tasks and what their parents have not heard of them, orphans, children of threads, "
    "what tasks share (CLONE_VM, FILES, FS, SIGHAND), a first thread that has ended before the others, "
    "parents that wait in vfork",
)

_NEWS = {us.CLD_STOPPED: "stopped", us.CLD_CONTINUED: "continued"}


def ordered(tree: FrozenTree) -> list[FrozenTask]:
    """The frozen tasks, parents before children."""
    return list(tree.tasks.values())


def collect_tree(tree: FrozenTree, mms: Sequence[Mm], context: CollectContext) -> None:
    """Put every record of the tree but its pages into `context.records`; raises NotDumpable with all refusals."""
    seen = {
        thread.tid: threads.glance(thread.tid, tree.wakeups, tree.frozen_for_ns)
        for thread in tree.threads()
        if thread.child is None
    }
    for task in tree.tasks.values():
        for tid in task.tids:
            if isinstance(remote := task.remote(tid), HeldRemote):
                seen[tid] = threads.glance_held(remote)
    for task in tree.tasks.values():
        check_namespaces(task, context)
    collect_own(context)
    check_outsiders(context)
    context.shared["mm:mapped"] = {(line.ino, line.path) for mm in mms for line in mm.lines if line.ino}
    context.shared["tree:zombies"] = frozenset(tree.zombies)
    tables = collect_files(context)
    sockets.check(context)
    collect_queues(context)
    mm_ids = {pid: mm.pid for mm in mms for pid in mm.pids}
    for mm in mms:
        context.records.append(collect_mm(mm, context))
    context.records += tables
    context.shared["tree:news"] = _news(tree)
    sighand = _sharing(tree, uapi.KCMP_SIGHAND, {pid for mm in mms if len(mm.pids) > 1 for pid in mm.pids})
    fs = _sharing(tree, uapi.KCMP_FS, tree.tasks)
    for task in tree.tasks.values():
        _collect_task(tree, task, context, seen, mm_ids[task.pid], sighand[task.pid], fs)
    _check_vforks(context)
    for pid in tree.zombies:
        context.records.append(collect_zombie(tree, pid))
    context.records += context.shared.get("shm", {}).values()
    offsets = clock_offsets()
    context.records.append(
        TreeRecord(
            tree.root,
            (*tree.tasks, *tree.zombies),
            time.clock_gettime_ns(time.CLOCK_MONOTONIC),
            time.clock_gettime_ns(time.CLOCK_BOOTTIME),
            time.time_ns(),
            offsets["monotonic"],
            offsets["boottime"],
        )
    )
    if context.refusals:
        raise NotDumpable(context.refusals)


def _check_vforks(context: CollectContext) -> None:
    """A thread that waits in vfork is to wait at its child's tid address or robust list (state/vforks.py)."""
    found = {record.tid: record for record in context.records if isinstance(record, ThreadRecord)}
    for thread in found.values():
        child = found[thread.vfork] if thread.vfork else None
        if child is not None and child.clear_child_tid and child.robust_list:
            reason = f"waits in vfork for task {child.pid}, which has a tid address and a robust list"
            context.refuse(
                thread.pid, f"thread {thread.tid}", reason, "dump again when that task has executed a program"
            )


def _news(tree: FrozenTree) -> dict[int, str]:
    """Which stopped and continued children their parents have not waited for; one remote syscall for each parent."""
    found: dict[int, str] = {}
    for parent in {pid for pid in tree.parents.values() if pid in tree.tasks}:
        remote = tree.tasks[parent].remote()
        if _untold(remote, us.P_ALL, 0):
            children = [pid for pid, above in tree.parents.items() if above == parent and pid in tree.tasks]
            found |= {pid: _NEWS[code] for pid in children if (code := _untold(remote, us.P_PID, pid)) in _NEWS}
    return found


def _untold(remote: RemoteTask, which: int, child: int) -> int:
    """The si_code of what waitid(2) would tell of stops and continuations, 0 for nothing."""
    info = remote.put(bytes(us.SIGINFO_SIZE))
    try:
        flags = us.WNOHANG | us.WNOWAIT | us.WSTOPPED | us.WCONTINUED | us.WALL
        remote.syscall(uapi.SYS_waitid, which, child, info, flags, 0)
    except KernelError:
        return 0  # ECHILD: they ended just now
    _, _, code, pid = us.siginfo_child.unpack(remote.read(info, us.siginfo_child.size))
    return int(code) if pid else 0


def _sharing(tree: FrozenTree, what: int, among: Collection[int]) -> dict[int, int]:
    """For each task, and each thread that differs from its process, the number that stands for what it shares.

    `what`: KCMP_FS or KCMP_SIGHAND, which only tasks `among` these may share. Mostly a task shares it with its parent
    or with nobody; kcmp's order finds the rest.
    """
    ids: dict[int, int] = {}
    sharers = Sharers(what)
    for pid, task in tree.tasks.items():
        if pid not in among:
            ids[pid] = pid
            continue
        parent = tree.parents.get(pid, 0)
        ids[pid] = ids[parent] if parent in ids and kcmp(pid, parent, what) == 0 else sharers.stands_for(pid)
        if what == uapi.KCMP_FS:
            for tid in task.tids[1:]:
                if kcmp(pid, tid, what):
                    ids[tid] = sharers.stands_for(tid)
    return ids


def _collect_task(
    tree: FrozenTree,
    task: FrozenTask,
    context: CollectContext,
    seen: dict[int, threads.Glance],
    mm_id: int,
    sighand_id: int,
    fs: dict[int, int],
) -> None:
    stat = procfs.stat(task.pid)
    rings.refuse(task, context)
    own = [threads.collect_thread(task, tid, context, seen[tid]) for tid in task.tids]
    state, own = task_state.settled(task, task_state.collect_task_state(task, context), own)
    context.records += own
    context.records.append(
        TaskRecord(
            pid=task.pid,
            ppid=tree.parents.get(task.pid, 0),
            pgid=stat.pgid,
            sid=stat.sid,
            tids=tuple(task.tids),
            state="stopped" if task.stop_signal else "alive",
            exit_code=0,
            exit_signal=stat.exit_signal,
            stop_signal=task.stop_signal,
            mm_id=mm_id,
            table_id=table_of(context, task.pid),
            sighand_id=sighand_id,
            fs_id=fs[task.pid],
            fs=state.fs,
            thread_fs=tuple((tid, fs[tid]) for tid in task.tids[1:] if fs.get(tid, fs[task.pid]) != fs[task.pid]),
            sigactions=state.sigactions,
            pending=state.pending,
            itimers=state.itimers,
            posix_timers=state.posix_timers,
            rlimits=state.rlimits,
            attributes=state.attributes,
            ctty_file=_terminal(stat.tty_nr),
            parent_tid=tree.parent_threads.get(task.pid, 0),
            news=context.shared["tree:news"].get(task.pid, ""),
            thread_tables=thread_tables(context, task),
            leader=(taskinfo.comm(task.pid, task.pid), stat.exit_code) if task.leader_exited else None,
        )
    )


def _terminal(tty_nr: int) -> str:
    """The path of a controlling terminal: Documentation/admin-guide/devices.txt."""
    if not tty_nr:
        return ""
    major, minor = os.major(tty_nr), os.minor(tty_nr)
    if 136 <= major <= 143:
        return f"/dev/pts/{(major - 136) * 256 + minor}"
    return f"/dev/tty{minor}" if major == 4 and minor < 64 else f"/dev/char/{major}:{minor}"


def as_tasks(tree: FrozenTree) -> Sequence[FrozenTaskLike]:
    """The frozen tasks as collectors see them."""
    return ordered(tree)
