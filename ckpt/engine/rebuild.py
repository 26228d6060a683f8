"""Building the tree: skeletons by the plan, then memory, files, threads and state, up to the moment before it runs."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from ckpt.engine import stops
from ckpt.engine.births import births, pairs, shared_tables
from ckpt.engine.init_root import InitRoot
from ckpt.engine.memory import Memory
from ckpt.engine.plan import Plan
from ckpt.engine.progress import Progress
from ckpt.engine.steps import OUTSIDE, Create, EndHelper, EndZombie, LeaveTable, SetPgid, SetSid, Step
from ckpt.errors import CkptError, ImageError, KernelError, NotPermitted, PidTaken, RestoreError
from ckpt.kernel import ptrace_requests as ptrace
from ckpt.kernel import uapi, uapi_namespaces, uapi_restore
from ckpt.kernel.adoption import set_subreaper
from ckpt.kernel.namespaces import INIT
from ckpt.records.mm import MmRecord
from ckpt.records.task import TaskRecord, ThreadRecord
from ckpt.state import fs, prctl, sockets, task_state, threads, zombies
from ckpt.state.context import RestoreContext
from ckpt.state.files import restore as files
from ckpt.state.mm_room import free_block
from ckpt.state.own_namespaces import restore_own
from ckpt.state.rebuild import remedy
from ckpt.state.shm_build import make_objects, seal_objects
from ckpt.state.sysv_queues import restore_queues
from ckpt.state.vforks import make_wait
from ckpt.trace.ending import forget_locks
from ckpt.trace.skeleton import BLOCK_SIZE, THREAD, Skeleton, reap
from ckpt.trace.spawn import spawn_skeleton


@dataclass
class Tree:
    """The tree being built. `kill` ends whatever of it exists; after `let_go` it runs."""

    context: RestoreContext
    plan: Plan
    tasks: Sequence[TaskRecord]
    threads: dict[int, list[ThreadRecord]]  # pid -> the leader first
    mms: dict[int, MmRecord]
    progress: Progress | None = None
    init: InitRoot | None = None  # the root, which stands already
    give_away: bool = False  # the root is not to be a child of ckpt, but of whoever adopts orphans
    leaders: dict[int, Skeleton] = field(default_factory=dict)  # by pid; helpers too
    skeletons: dict[int, Skeleton] = field(default_factory=dict)  # by tid
    _births: dict[int, dict[int, tuple[int, int]]] = field(default_factory=dict)  # of threads, by pid

    def __post_init__(self) -> None:
        self._records = {task.pid: task for task in self.tasks}
        self._shared_tables = shared_tables(self.tasks)
        self._carried = {step.pid: step.table for step in self.plan.steps if isinstance(step, LeaveTable)}

    # ------------------------------------------------------------------ the order

    def build(self) -> None:
        """Everything up to the registers. Raises RestoreError; the caller then kills the tree."""
        channel = files.make_channel(self.context)
        make_objects(self.context)
        self.memory = Memory(self.context, self.mms, self.tasks, self.plan, self.leaders, self.progress)
        address = free_block(list(self.mms.values()), BLOCK_SIZE)
        for step in self.plan.steps:
            self._take(step, address, channel)
        self.context.acting = self._acting
        living = [task for task in self.tasks if task.state != "zombie"]
        for task in living:
            self._make_threads(task)
        files.open_files(self.context)  # some are of threads: in /proc, pidfds
        restore_queues(self.context)
        for task in living:
            if task.fs is not None:
                fs.prepare_deleted(self.context, task.pid, task.fs)
        self._build_memory(living)
        seal_objects(self.context)
        self._install_tables(living, channel)
        files.finish_files(self.context)  # an owner may be a thread
        sockets.finish(self.context, self.leaders.__getitem__)
        restore_own(self.context, self.skeletons)
        self._wait_in_vfork()
        self._stop(living)
        self._restore_state(living)
        files.close_files(self.context)

    def let_go(self) -> None:
        """Give every thread its registers and let it run."""
        living = [task for task in self.tasks if task.state != "zombie"]
        for task in living:
            self.threads[task.pid] = [
                threads.resume_wait(self.skeletons[thread.tid], thread) for thread in self.threads[task.pid]
            ]
        for task in living:
            if task.leader is not None:
                with self._naming(task.pid, "its first thread, which had ended"):
                    self.leaders[task.pid].leave(task.leader[1])
        unmapped: set[int] = set()
        for task in living:
            with self._naming(task.pid, "the restorer's own code"):
                self.skeletons[task.tids[0]].finish(unmap=task.mm_id not in unmapped)
            unmapped.add(task.mm_id)
        for task in living:
            threads.finish_threads(task, self.threads[task.pid])
        # Children first: a parent that runs finds them all there. Threads in the order in which they were made.
        for task in reversed(living):
            if task.leader is not None:
                self.leaders[task.pid].let_go()
            for thread in self.threads[task.pid]:
                self.skeletons[thread.tid].let_go()

    # ------------------------------------------------------------------ births

    def _take(self, step: Step, address: int, channel: int) -> None:
        match step:
            case Create():
                self._create(step, address, channel)
            case SetSid(pid):
                with self._naming(pid, "its session"):
                    self.leaders[pid].syscall(uapi.SYS_setsid)
                    files.begin_session(self.context, self.leaders[pid])
            case SetPgid(pid, pgid):
                with self._naming(pid, f"its process group {pgid}"):
                    self.leaders[pid].syscall(uapi.SYS_setpgid, 0, pgid)
            case LeaveTable(pid, table):
                with self._naming(pid, "its descriptor table"):
                    for tid, kept in self._records[pid].thread_tables:
                        if kept == table:
                            self._thread(self.leaders[pid], tid)
                    self.leaders[pid].syscall(uapi_namespaces.SYS_unshare, uapi.CLONE_FILES)
            case EndHelper(pid, reaper, adopter):
                self._end_helper(pid, reaper, adopter)
            case EndZombie(pid):
                with self._naming(pid, "its end"):
                    zombies.end(self.leaders[pid], self._records[pid])

    def _create(self, step: Create, address: int, channel: int) -> None:
        pid = max(step.pid, 0)
        try:
            if step.creator == OUTSIDE and step.helper:
                made = spawn_skeleton(pid, address, channel)
            elif step.creator == OUTSIDE:
                made = self._root(pid, address, channel)
            else:
                with self._naming(step.creator, "its memory"):
                    self.memory.before_clone(step.creator)
                exit_signal = 0 if step.flags & uapi.CLONE_PARENT else step.exit_signal
                creator = self.leaders[step.creator]
                if step.thread:
                    creator = self._thread(creator, step.thread)
                made = self._clone(creator, pid, step.flags, exit_signal)
        except KernelError as error:
            raise _cannot_create("task", pid, error) from None
        self.leaders[step.pid] = self.skeletons[made.tid] = made
        self.memory.cloned(step)

    def _root(self, pid: int, address: int, channel: int) -> Skeleton:
        if self.init is not None:
            return self.init.with_channel(channel)
        if not self.give_away:
            return spawn_skeleton(pid, address, channel)
        helper = spawn_skeleton(0, address, channel)
        try:
            if helper.pid in self.plan.numbers:
                raise RestoreError(f"pid {helper.pid} was just given to a helper of ckpt", hint="try again")
            made = helper.clone(pid, 0, signal.SIGCHLD)
            self.skeletons[made.tid] = made
            set_subreaper(0)
            helper.exit(0)  # ckpt is its parent: this waits for it, too
        finally:
            set_subreaper(1)
            if not helper.ended:
                helper.kill()
                reap([helper])
        return made

    def _clone(self, creator: Skeleton, pid: int, flags: int, exit_signal: int) -> Skeleton:
        while True:
            made = creator.clone(pid, flags, exit_signal)
            if pid or made.pid not in self.plan.numbers:
                return made
            # The kernel chose a number for a helper that the tree itself needs: give it back.
            made.exit(0)
            _wait_in(creator, made.pid)

    def _end_helper(self, pid: int, reaper: int, adopter: int) -> None:
        helper = self.leaders[pid]
        with self._naming(helper.pid, "a helper"):
            if reaper == OUTSIDE:  # it leads the session of the root, which passes to ckpt or to who adopts orphans
                set_subreaper(int(not self.give_away))
                helper.exit(0)
                set_subreaper(1)
                return
            if adopter != OUTSIDE:
                self._subreaper(adopter, 1)
            helper.exit(0)
            _wait_in(self.leaders[reaper], helper.pid)
            if adopter != OUTSIDE:
                self._subreaper(adopter, 0)

    @contextmanager
    def _acting(self, pid: int, parent_pid: int = 0) -> Iterator[Skeleton | None]:
        """The task or thread of this number, or a helper that has it for the moment; None when it is not to be had.

        The helper (with pid 0: of whatever number) is a child of `parent_pid`, or of the root.
        """
        known = self.leaders.get(pid) or self.skeletons.get(pid)
        if known is not None:
            yield None if known.ended else known
            return
        parent = self.leaders[parent_pid or self.tasks[0].pid]
        try:
            made = self._clone(parent, pid, 0, signal.SIGCHLD)
        except KernelError:
            yield None
            return
        self.skeletons[made.tid] = made
        try:
            yield made
        finally:
            made.exit(0)
            _wait_in(parent, made.pid)
            del self.skeletons[made.tid]

    def _subreaper(self, pid: int, value: int) -> None:
        self.leaders[pid].syscall(uapi.SYS_prctl, uapi_restore.PR_SET_CHILD_SUBREAPER, value, 0, 0, 0)

    def _make_threads(self, task: TaskRecord) -> None:
        for tid in task.tids:
            if tid != task.pid:
                self._thread(self.leaders[task.pid], tid)

    def _thread(self, leader: Skeleton, tid: int) -> Skeleton:
        """Thread `tid`, made when it is first asked for."""
        if tid not in self.skeletons:
            if leader.pid not in self._births:
                wanted = pairs(self._records[leader.pid], self.threads[leader.pid], self._shared_tables)
                self._births[leader.pid] = births(leader.pid, wanted, self._carried.get(leader.pid, 0))
            maker, shares = self._births[leader.pid][tid]
            creator = self._thread(leader, maker) if maker != leader.pid else leader
            try:
                self.skeletons[tid] = creator.clone(tid, THREAD & ~(uapi.CLONE_FS | uapi.CLONE_FILES) | shares)
            except KernelError as error:
                raise _cannot_create(f"thread of task {leader.pid}", tid, error) from None
        return self.skeletons[tid]

    # ------------------------------------------------------------------ memory, files, state

    def _build_memory(self, living: Sequence[TaskRecord]) -> None:
        for task in living:
            with self._naming(task.pid, "its limits and attributes"):
                task_state.early(self.leaders[task.pid], task)
        built: set[int] = set()
        for task in living:
            if task.mm_id not in built:
                with self._naming(task.pid, "its memory"):
                    self.memory.build(task)
                built.add(task.mm_id)
            self.leaders[task.pid].close_memory()

    def _install_tables(self, living: Sequence[TaskRecord], channel: int) -> None:
        installed: set[int] = set()
        for task in living:
            for tid, table in task.thread_tables:  # first: it may still have the process's, with the channel
                if table not in self._shared_tables:
                    with self._naming(task.pid, f"the descriptor table of thread {tid}"):
                        self.skeletons[tid].syscall(uapi_namespaces.SYS_unshare, uapi.CLONE_FILES)
        for task in living:
            for tid, table in ((task.pid, task.table_id), *task.thread_tables):
                skeleton = self.skeletons[tid]
                with self._naming(task.pid, "its open files"):
                    if table in installed:
                        files.run_installed_hooks(self.context, skeleton)
                    else:
                        files.install_table(self.context, skeleton, self.context.tables[table], channel)
                        installed.add(table)
                skeleton.close_memory()

    def _wait_in_vfork(self) -> None:
        for pid, own in self.threads.items():
            for at, thread in enumerate(own):
                if thread.vfork:
                    waiting = make_wait(self.skeletons[thread.tid], thread, self.threads[thread.vfork][0])
                    self.threads[pid][at], self.threads[thread.vfork][0] = waiting.thread, waiting.child

    def _stop(self, living: Sequence[TaskRecord]) -> None:
        by_pid = {task.pid: task for task in self.tasks}
        for task in living:
            if task.state == "stopped" or task.news == "continued":
                with self._naming(task.pid, "its stop"):
                    threads = [self.skeletons[thread.tid] for thread in self.threads[task.pid]]
                    if task.leader is not None:
                        threads.append(self.leaders[task.pid])  # one that had not stopped would tell of it at its end
                    parent = self.leaders.get(task.ppid) if task.ppid in self.context.pids else None
                    stops.stop(task, by_pid, threads, parent)
        for task in living:
            with self._naming(task.pid, "its signals"):
                ends = [child.exit_signal for child in self.tasks if child.ppid == task.pid]
                stops.drain(self.leaders[task.pid], ends)

    def _restore_state(self, living: Sequence[TaskRecord]) -> None:
        for task in living:
            self.leaders[task.pid].step_calls()
            for thread in self.threads[task.pid]:
                skeleton = self.skeletons[thread.tid]
                skeleton.step_calls()
                if thread.seccomp is not None:
                    with self._naming(task.pid, "seccomp"):
                        skeleton.suspend_seccomp()
                with self._naming(task.pid, f"thread {thread.tid}"):
                    threads.restore_thread(skeleton, thread, task)
        for task in living:
            leader = self.leaders[task.pid]
            with self._naming(task.pid, "its process state"):
                own = self.threads[task.pid]
                task_state.late(leader, [self.skeletons[t.tid] for t in own], task, [t.pending for t in own])
                for thread in self.threads[task.pid]:
                    threads.restore_privileges(self.skeletons[thread.tid], thread)
                if task.leader is not None:
                    threads.restore_ended(leader, task.leader[0], own[0])
                prctl.restore_dumpable(leader, self.mms[task.mm_id].dumpable)
            for thread in self.threads[task.pid]:
                self.skeletons[thread.tid].close_memory()

    # ------------------------------------------------------------------ failure

    @contextmanager
    def _naming(self, pid: int, what: str) -> Iterator[None]:
        """A KernelError inside becomes a RestoreError that names the task and the state."""
        try:
            yield
        except KernelError as error:
            message = f"task {pid}: {what} could not be rebuilt: {error.message}"
            raise RestoreError(message, hint=remedy(error)) from error
        except RestoreError:
            raise
        except CkptError as error:
            kind = ImageError if isinstance(error, ImageError) else RestoreError  # another copy of the image may do
            raise kind(f"task {pid}: {what}: {error.message}", hint=error.hint) from error

    def kill(self) -> None:
        """End and reap everything that was made; ckpt must be the subreaper of the tree."""
        for tid in self.skeletons:
            with suppress(CkptError):
                forget_locks(tid)
        for skeleton in self.skeletons.values():
            skeleton.kill()
        # Once as the tracer, and again as the adopter of those whose parents have ended by then.
        # Last born first, for a leader's end is told only when its threads have been waited for.
        for _ in range(2):
            for tid, skeleton in reversed(self.skeletons.items()):
                if skeleton.pid != INIT:  # that one ends with ckpt
                    _wait_end(tid)


def _wait_end(tid: int) -> None:
    while True:
        try:
            _, status = os.waitpid(tid, uapi_restore.WALL)
        except ChildProcessError:
            return
        if not os.WIFSTOPPED(status):
            return
        try:
            ptrace.cont(tid, 0)
        except KernelError:
            continue  # the kill came first: wait for the end


def _wait_in(parent: Skeleton, pid: int) -> None:
    parent.syscall(uapi_restore.SYS_wait4, pid, 0, uapi_restore.WALL, 0)


def _cannot_create(what: str, number: int, error: KernelError) -> RestoreError:
    if error.errno == errno.EEXIST:
        return PidTaken(
            f"{what} {number}: the number is in use",
            hint="end its holder, or restore with --pidns: the same pids in a new pid namespace",
        )
    if isinstance(error, NotPermitted):
        return RestoreError(
            f"{what} {number}: this user may not choose process numbers: {error.message}",
            hint="run ckpt as root, or with CAP_CHECKPOINT_RESTORE",
        )
    return RestoreError(f"{what} {number} could not be created: {error.message}", hint=error.hint)
