"""Restoring a tree from an image: check, build, let go; on any failure nothing is left."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

from ckpt import chain
from ckpt.engine import preflight
from ckpt.engine.elsewhere import work_elsewhere
from ckpt.engine.init_root import InitRoot
from ckpt.engine.namespaces import HERE, Place, Wanted, choose, outside_pid
from ckpt.engine.plan import Plan, plan
from ckpt.engine.progress import Progress
from ckpt.engine.rebuild import Tree
from ckpt.engine.relay import relay
from ckpt.engine.restore_wait import wait_for
from ckpt.errors import RestoreError
from ckpt.kernel.adoption import adopting
from ckpt.kernel.namespaces import INIT, become_init
from ckpt.records.image import ImageHeader
from ckpt.records.mm import MmRecord
from ckpt.records.seams import ImageView
from ckpt.records.task import TaskRecord, ThreadRecord
from ckpt.records.tree import TreeRecord
from ckpt.state import ids, sockets
from ckpt.state.context import RestoreContext
from ckpt.state.files import caller, inherit, kept
from ckpt.state.mm_room import check_mappings, free_block
from ckpt.trace.skeleton import BLOCK_SIZE


@dataclass(frozen=True, slots=True)
class Restored:
    """A tree that runs again. Its root is a child of this process, but for a detached one with a pdeathsig."""

    pid: int
    pids: tuple[int, ...]
    restore_time_us: int
    header: ImageHeader
    detached: bool = False
    namespaces: tuple[str, ...] = ()  # new ones in which it runs: user, pid, time, ipc
    outside_pid: int = 0  # the root's pid as seen from here; another one than `pid` in a pid namespace of its own
    notes: tuple[str, ...] = ()  # what was chosen unasked, and what could not be kept
    status_fd: int = -1  # where the init of the pid namespace tells how the root ended
    job: bool = False  # of the shell that ckpt is called from
    terminal: int = -1  # the master of the tree's own terminal, to be copied to ckpt's; -1 for none

    def wait(self) -> int:
        """Wait for the root task: its exit code, or 128 + signal. Signals sent to ckpt go to it meanwhile."""
        pid = self.outside_pid or self.pid
        if self.terminal >= 0:
            relay(self.terminal, pid)
        return wait_for(pid, self.status_fd, job=self.job)


def restore(
    source: str | Path,
    *,
    at: int | None = None,
    detach: bool = False,
    pidfile: str | Path | None = None,
    shell_job: bool = False,
    inherit_fds: Sequence[str] = (),
    userns: bool | None = None,
    pidns: bool = False,
    timens: bool | None = None,
    progress: Progress | None = None,
) -> Restored:
    """Rebuild the tree of round `at` (None: the newest) of the chain in directory `source`, or of an image file.

    `shell_job`: the root joins ckpt's process group, as the job of the shell that runs ckpt. `detach`: the tree is
    to outlive ckpt; nobody waits for it. `inherit_fds`: see `ckpt.state.files.inherit`; without `detach` "std" is
    implied. `userns`: in a new user and pid namespace (None: when this user may not choose pids); `pidns`: in a new pid
    namespace; `timens`: in a new time namespace, whose clocks go on from the dump (None: when the image comes from
    another boot, and it is possible). `progress` counts the pages that stand. Raises ImageError or ChainError for
    the image, PidTaken, FileChanged, HostMismatch or another RestoreError otherwise; then nothing is left behind.
    """
    with chain.view(source, at) as view:
        preflight.check_image(view)
        place = choose(Wanted(userns, pidns, timens), view)

        terminals = bool(view.records("pty")) and not shell_job

        def settle() -> None:
            place.settle(terminals=terminals)

        root = _init_root(view, not shell_job, settle) if place.init else None

        def build(progress: Progress | None) -> Restored:
            return restore_view(
                view,
                detach=detach,
                pidfile=None if place.has_pids else pidfile,
                shell_job=shell_job,
                inherit_fds=inherit_fds,
                place=place,
                init=root,
                progress=progress,
            )

        if not place.flags:
            return build(progress)
        return _elsewhere(place, build, pidfile, shell_job, settle, progress, root)


def _elsewhere(
    place: Place,
    build: Callable[[Progress | None], Restored],
    pidfile: str | Path | None,
    shell_job: bool,
    settle: Callable[[], None],
    progress: Progress | None,
    root: InitRoot | None,
) -> Restored:
    """Restore in a process that lives in new namespaces; it stays as the init of a pid namespace."""
    outside = 0
    status, told = os.pipe()

    def work(progress: Progress | None) -> Restored:
        if place.has_pids and not shell_job:
            os.setsid()
        if root is None:  # it has done so already
            settle()
        return build(progress)

    stays = place.has_pids and root is None

    def seen(child: int, restored: Restored) -> None:
        nonlocal outside
        if place.has_pids:
            outside = outside_pid(child, restored.pid) if root is None else child
            if pidfile is not None:
                _write_pidfile(Path(pidfile), outside)

    def stay(restored: Restored) -> NoReturn:
        become_init(restored.pid, told)

    try:
        made: Restored = work_elsewhere(
            place.enter, work, progress=progress, seen=seen, stay=stay if stays else None, root=root
        )
    except BaseException:
        os.close(status)
        raise
    finally:
        os.close(told)
    if not stays or made.detached:
        os.close(status)
        status = -1
    return replace(made, outside_pid=outside, status_fd=status)


def restore_view(
    view: ImageView,
    *,
    detach: bool = False,
    pidfile: str | Path | None = None,
    shell_job: bool = False,
    inherit_fds: Sequence[str] = (),
    place: Place = HERE,
    init: InitRoot | None = None,
    progress: Progress | None = None,
) -> Restored:
    """`restore` of an image that is open already, by a process that is in `place`."""
    started = time.perf_counter_ns()
    given = inherit.parse(inherit_fds, std=not detach)
    preflight.check_image(view)
    tree: TreeRecord = view.records("tree")[0]
    tasks: list[TaskRecord] = _in_order(tree, list(view.records("task")))
    threads: list[ThreadRecord] = list(view.records("thread"))
    if place.has_users:
        threads = ids.as_mapped(threads, place.groups)
    mms: list[MmRecord] = list(view.records("mm"))
    preflight.check_tasks(tasks, threads, mms)
    order = _order(tasks, tree, shell_job)
    preflight.check_numbers(order.numbers - {INIT} if init is not None else order.numbers)
    context = RestoreContext(view, frozenset(task.pid for task in tasks))
    files, put_back = view.records("file"), kept.names(context)
    preflight.check_files(mms, files, lambda path: path not in put_back)
    check_mappings(mms)
    preflight.check_host(mms, threads, free_block(mms, BLOCK_SIZE))
    kept.put_back(context)  # nothing before it has changed anything
    preflight.check_files(mms, files, put_back.__contains__)
    context.options["shell_job"] = shell_job
    context.options["detach"] = detach
    context.options["relays"] = not detach and not place.flags
    context.options["inherit"] = given
    by_tid = {thread.tid: thread for thread in threads}
    of_task = {task.pid: [by_tid[tid] for tid in task.tids if tid in by_tid] for task in tasks}
    building = Tree(context, order, tasks, of_task, {mm.mm_id: mm for mm in mms}, progress)
    building.init = init
    # A parent-death signal would come when ckpt ends: such a root gets another parent before.
    lasts = detach and not place.has_pids and any(thread.pdeathsig for thread in of_task[tree.root_pid])
    building.give_away = lasts or bool(place.flags and not place.has_pids)

    def restored() -> Restored:
        spent = (time.perf_counter_ns() - started) // 1000
        pids = tuple(task.pid for task in tasks)
        terminal = caller.relay_master(context)
        return Restored(
            tree.root_pid, pids, spent, view.header, detach, place.names, notes=(*place.notes, *context.notes),
            job=shell_job, terminal=terminal,
        )  # fmt: skip

    with ExitStack() as stack, _terminal_signals_held():
        stack.enter_context(adopting())
        stack.enter_context(context.stack)
        try:
            building.build()
            if pidfile is not None:
                _write_pidfile(Path(pidfile), tree.root_pid)
                stack.push(_remove_on_error(Path(pidfile)))
            if init is not None:
                init.ready(restored())
            building.let_go()
            sockets.done(context)
        except BaseException:
            building.kill()
            raise
    return restored()


def _init_root(view: ImageView, own_session: bool, settle: Callable[[], None]) -> InitRoot:
    tasks: list[TaskRecord] = list(view.records("task"))
    numbers = {number for task in tasks for number in (task.pid, task.sid, task.pgid, *task.tids)}
    return InitRoot(free_block(list(view.records("mm")), BLOCK_SIZE), numbers, own_session, settle)


def _order(tasks: list[TaskRecord], tree: TreeRecord, shell_job: bool) -> Plan:
    """The plan, with the root's session in its own number where that can be."""
    if not shell_job and _leader_ended(tree, tasks):
        try:
            return plan(tasks, tree.root_pid, revive=True)
        except RestoreError:
            pass  # as the dump planned it
    return plan(tasks, tree.root_pid, shell_job=shell_job, caller=os.getpgid(0))


def _leader_ended(tree: TreeRecord, tasks: list[TaskRecord]) -> bool:
    """Whether the root's session can be made again, as its leader is neither in the tree nor anywhere else."""
    session = next(task.sid for task in tasks if task.pid == tree.root_pid)
    return all(session not in (task.pid, *task.tids) for task in tasks) and preflight.is_free(session)


def _in_order(tree: TreeRecord, tasks: list[TaskRecord]) -> list[TaskRecord]:
    """Parents before children, as the tree says."""
    place = {pid: index for index, pid in enumerate(tree.pids)}
    return sorted(tasks, key=lambda task: place.get(task.pid, len(place)))


@contextmanager
def _terminal_signals_held() -> Iterator[None]:
    """Python turns SIGINT into an exception at any instruction; the tree must be built or killed whole."""
    held = {signal.SIGTERM, signal.SIGHUP}
    old = signal.pthread_sigmask(signal.SIG_BLOCK, held)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, old)


def _write_pidfile(path: Path, pid: int) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(f"{pid}\n")
        temporary.replace(path)
    except OSError as error:
        hint = "give --pidfile a file whose directory is there and can be written to"
        raise RestoreError(f"the pid file {path} cannot be written: {error.strerror}", hint=hint) from None


def _remove_on_error(path: Path) -> Callable[..., bool]:
    def remove(kind: object, *_: object) -> bool:
        if kind is not None:
            path.unlink(missing_ok=True)
        return False

    return remove
