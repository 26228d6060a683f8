"""By whom the threads of a process are made, and in which order: what they share comes with a clone alone. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from ckpt.errors import RestoreError
from ckpt.kernel import uapi
from ckpt.records.task import TaskRecord, ThreadRecord

Pair = tuple[int, int]
"""Whose directories (CLONE_FS) and which descriptor table a thread uses."""


def shared_tables(tasks: Iterable[TaskRecord]) -> frozenset[int]:
    """The descriptor tables of several users. A thread that uses another one alone leaves the process's at the end.

    Zombies have none, which is no table that they share.
    """
    users = Counter(table for task in tasks for table in (task.table_id, *dict(task.thread_tables).values()))
    return frozenset(table for table, count in users.items() if table and count > 1)


def pairs(task: TaskRecord, threads: Sequence[ThreadRecord], shared: frozenset[int]) -> dict[int, Pair]:
    """What each thread of the task is made with; its first one, too."""
    own = {tid: table for tid, table in task.thread_tables if table in shared}
    fs = dict(task.thread_fs)

    def pair(thread: ThreadRecord) -> Pair:
        return fs.get(thread.tid, thread.fs_tid or task.fs_id), own.get(thread.tid, task.table_id)

    return {task.pid: (task.fs_id, task.table_id)} | {thread.tid: pair(thread) for thread in threads}


def births(pid: int, wanted: Mapping[int, Pair], carried: int = 0) -> dict[int, tuple[int, int]]:
    """tid -> the thread that clones it, and which of CLONE_FS and CLONE_FILES it shares with that one.

    `carried`: the table that the first thread has until it leaves it; those that keep it are born before.
    """
    fs, table = wanted[pid]
    found: dict[int, tuple[int, int]] = {}
    first: dict[Pair, int] = {(fs, carried or table): pid}
    todo = {
        pair: [tid for tid in wanted if wanted[tid] == pair and tid != pid] for pair in dict.fromkeys(wanted.values())
    }
    if carried:
        _grow({pair: tids for pair, tids in todo.items() if pair[1] == carried}, first, found)
        first = {pair: tid for pair, tid in first.items() if tid != pid} | {(fs, table): pid}
        todo = {pair: tids for pair, tids in todo.items() if pair[1] != carried}
    _grow(todo, first, found)
    return found


def _grow(todo: dict[Pair, list[int]], first: dict[Pair, int], found: dict[int, tuple[int, int]]) -> None:
    """Sharing only ever spreads by clones, so there is always one to be made of a thread that has all it needs."""
    while todo:
        known_fs, known_tables = {fs for fs, _ in first}, {table for _, table in first}
        pair = max(todo, key=lambda p: (p[0] in known_fs) + (p[1] in known_tables))
        for near in first:
            if (pair[0] not in known_fs or near[0] == pair[0]) and (pair[1] not in known_tables or near[1] == pair[1]):
                break
        else:
            raise RestoreError(
                f"thread {todo[pair][0]} shares directories and descriptors with threads that share neither"
            )
        for tid in todo.pop(pair):
            maker = first.get(pair, first[near])
            flags = uapi.CLONE_FS * (near[0] == pair[0]) | uapi.CLONE_FILES * (near[1] == pair[1])
            found[tid] = (maker, flags if maker == first[near] else uapi.CLONE_FS | uapi.CLONE_FILES)
            first.setdefault(pair, tid)
