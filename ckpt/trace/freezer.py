"""Freezing a task tree: seize and interrupt every thread, look again until nothing new appears, and undo it all.

PTRACE_ATTACH is never used, for it sends SIGSTOP. When ckpt dies in a freeze the kernel detaches every thread and the
tree runs on; a task in group-stop stays in it either way.
"""

from __future__ import annotations

import gc
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field

from ckpt.errors import FreezeTimeout, KernelError, NoSuchTask
from ckpt.kernel import keeper, procfs, reports, standins, uapi
from ckpt.kernel import ptrace_requests as ptrace
from ckpt.kernel import uapi_state as us
from ckpt.kernel.namespaces import INIT
from ckpt.kernel.wakeups import Wakeups
from ckpt.trace import critical_section, ending, executing, homeward, vforks, waits
from ckpt.trace.checks import already_traced, check_task, does_not_stop, inside, not_permitted, wait_until_stoppable
from ckpt.trace.deferral import deferrable_signals, deferred_signals
from ckpt.trace.frozen import FrozenTask, FrozenThread
from ckpt.trace.release import GROUP_STOPS, kill, release
from ckpt.trace.urgency import Urgency

_STOPPED = os.WSTOPPED | os.WNOHANG | os.WNOWAIT | us.WALL


@dataclass
class FrozenTree:
    """The tree while it is frozen; `thaw` or `kill` ends that, and the context manager thaws what is left."""

    root: int
    tasks: dict[int, FrozenTask] = field(default_factory=dict)
    zombies: list[int] = field(default_factory=list)
    parents: dict[int, int] = field(default_factory=dict)  # child -> parent within the tree
    parent_threads: dict[int, int] = field(default_factory=dict)  # child -> the thread that is its parent
    started_ns: int = 0
    frozen_ns: int = 0  # when everything stood still
    thawed_ns: int = 0
    wakeups: Wakeups = field(default_factory=Wakeups)
    urgency: Urgency = field(default_factory=Urgency)
    before_thaw: Callable[[], None] | None = None  # undoes what was done to objects of the tasks

    @property
    def freezing_time(self) -> int:
        """Microseconds from the first INTERRUPT until everything stood still."""
        return max(0, self.frozen_ns - self.started_ns) // 1000

    @property
    def frozen_time(self) -> int:
        """Microseconds from the first INTERRUPT to the last DETACH (or until now)."""
        return ((self.thawed_ns or time.perf_counter_ns()) - self.started_ns) // 1000

    @property
    def frozen_for_ns(self) -> int:
        """Nanoseconds since everything stood still."""
        return time.perf_counter_ns() - self.frozen_ns

    def threads(self) -> Iterator[FrozenThread]:
        for task in self.tasks.values():
            yield from task.threads.values()

    def thaw(self) -> None:
        """Put back whatever remote syscalls changed and let every thread go on; safe to call twice."""
        with deferred_signals():
            undo, self.before_thaw = self.before_thaw, None
            try:
                if undo is not None:
                    undo()
            finally:
                # Who has gone into vfork since it was asked to stop can be let go of when it is back: its child first.
                late = [thread for thread in self.threads() if thread.child is not None]
                others = [thread for thread in self.threads() if thread.child is None]
                failed = [error for thread in others if (error := self._release(thread)) is not None]
                if not self.thawed_ns:
                    self.thawed_ns = time.perf_counter_ns()
                self.urgency.end()
                failed += [error for thread in late if (error := self._release(thread)) is not None]
            if failed:
                raise failed[0]

    def _release(self, thread: FrozenThread) -> Exception | None:
        """What went wrong, whatever it was: one that cannot be let go of does not keep the others."""
        try:
            release(thread, self.wakeups)
        except Exception as error:
            return error
        return None

    def stop(self) -> None:
        """Let go of every thread, but leave each task in group-stop, as by SIGSTOP."""
        with deferred_signals():
            for pid in self.tasks:
                kill(pid, signal.SIGSTOP)
            self.thaw()

    def kill(self, deadline: float = 30.0) -> None:
        """End every task of the tree and wait until all are gone or zombies of somebody else."""
        with deferred_signals():
            self.before_thaw = None
            if not self.thawed_ns:
                self.thawed_ns = time.perf_counter_ns()
            self.urgency.end()
            ending.end(self, deadline)
            for task in self.tasks.values():
                task.threads.clear()


def freeze(root: int, *, timeout: float = 5.0) -> _Freeze:
    """A context manager that freezes the tree under `root` and gives its FrozenTree."""
    return _Freeze(root, timeout)


class _Freeze:
    def __init__(self, root: int, timeout: float) -> None:
        self._tree = FrozenTree(root)
        self._deadline = timeout
        self._gc = False
        self._watch = executing.SeizeWatch()
        self._signals = ExitStack()

    def __enter__(self) -> FrozenTree:
        standins.forget()
        check_task(self._tree.root)
        self._waiting = wait_until_stoppable(self._tree.root, self._deadline)
        self._tree.wakeups.start()
        self._signals.enter_context(deferrable_signals())
        self._gc = gc.isenabled()
        gc.disable()
        self._tree.urgency.start()
        self._end = time.monotonic() + self._deadline
        try:
            self._freeze_all()
        except BaseException:
            self.__exit__()
            raise
        self._tree.frozen_ns = time.perf_counter_ns()
        self._tree.started_ns = self._watch.interrupted_ns or self._tree.frozen_ns  # all wait in vfork
        return self._tree

    def __exit__(self, *_: object) -> None:
        with self._signals as rest:  # a Ctrl-C that waited for the thaw comes out of it
            if self._gc:
                rest.callback(gc.enable)
            rest.callback(self._tree.wakeups.close)
            rest.callback(self._watch.end)
            self._tree.thaw()

    def _freeze_all(self) -> None:
        todo = [self._tree.root]
        while todo:
            for pid in todo:
                self._freeze_task(pid)
            todo = self._new_tasks() or self._set_free()

    def _set_free(self) -> list[int]:
        """Tasks with a thread that waited in vfork and does so no more, or not for a task of the tree."""
        found = []
        for pid, task in self._tree.tasks.items():
            for thread in [thread for thread in task.threads.values() if thread.child is not None]:
                if vforks.child_of(pid, thread.tid) in self._tree.tasks:
                    continue
                thread.child = None
                if thread.stopped:  # it was asked to stop before
                    self._wait_stop(task, thread)
                else:
                    del task.threads[thread.tid]
                    found.append(pid)
        return list(dict.fromkeys(found))

    def _new_tasks(self) -> list[int]:
        """Children that were born before their parent stood still."""
        tree = self._tree
        found = []
        for pid, task in tree.tasks.items():
            tids = task.tids if not task.leader_exited else [pid, *task.tids]
            for tid in tids:
                for child in procfs.children(pid, [tid]):
                    if child in tree.tasks or child in tree.zombies:
                        continue
                    if child == os.getpid():
                        raise inside(tree.root)
                    if pid == INIT and _is_keeper(child):
                        continue
                    tree.parents[child], tree.parent_threads[child] = pid, tid
                    found.append(child)
        return found

    def _freeze_task(self, pid: int) -> None:
        tree = self._tree
        try:
            state = procfs.state(pid)
            alone = state in "ZX" and len(procfs.threads(pid)) == 1
        except NoSuchTask:
            if pid == tree.root:
                raise
            tree.tasks.pop(pid, None)  # it waited in vfork when it was last looked at
            return
        task = tree.tasks.get(pid) or FrozenTask(pid)
        if state in "ZX":
            if alone and executing.over(pid, patient=pid == tree.root):
                if pid == tree.root:
                    raise NoSuchTask(f"task {pid} has ended")
                tree.tasks.pop(pid, None)
                tree.zombies.append(pid)
                return
            task.leader_exited = True  # or another thread has its tid by now: that will show
        tree.tasks[pid] = task
        while True:
            task.leader_exited = task.leader_exited and executing.ended(pid, pid)  # another thread may have its tid now
            fresh = [t for t in procfs_threads(pid) if t not in task.threads and not (task.leader_exited and t == pid)]
            if fresh != [pid]:  # a request that a worker of io_uring waits for would fail if that was interrupted
                task.workers.update(tid for tid in fresh if tid != pid and procfs.is_io_worker(pid, tid))
                fresh = [tid for tid in fresh if tid not in task.workers]
            if len(fresh) + len(task.threads) > 1:
                self._watch.start()
            if not fresh and self._all_stand(task):
                break
            if time.monotonic() > self._end:
                raise FreezeTimeout(
                    f"task {pid} made new threads for {self._deadline:g} s, quicker than they could be stopped; "
                    "everything was thawed again",
                    hint="try again later or raise --timeout",
                )
            seized = [tid for tid in fresh if self._seize(task, tid)]
            for thread in [task.threads[tid] for tid in seized]:
                if thread.tid in task.threads:
                    self._wait_stop(task, thread)
        if task.leader_exited and task.threads:
            standins.note(pid, task.tids[0])
        if not task.threads:
            del tree.tasks[pid]
            if pid == tree.root:
                raise NoSuchTask(f"task {pid} ended while it was being frozen")
            if procfs.exists(pid):
                tree.zombies.append(pid)

    def _all_stand(self, task: FrozenTask) -> bool:
        """Else a thread that was executing a program has the first one's tid now, and is not known by it yet."""
        pid = task.pid
        leader = task.threads.get(pid)
        if leader is not None and leader.stopped and leader.child is None and not executing.stands(pid):
            del task.threads[pid]
        return bool(task.threads) or executing.ended(pid, pid)

    def _seize(self, task: FrozenTask, tid: int) -> bool:
        task.threads[tid] = thread = FrozenThread(task.pid, tid)
        if tid in self._waiting and self._waits_in_vfork(thread):
            return False
        thread.stopped = True  # first: whatever comes, it is let go of
        try:
            done = self._watch.seize(task.pid, tid, task.threads)
        except KernelError as error:
            del task.threads[tid]
            raise self._why_not(task, tid, error) from None
        if not done:
            del task.threads[tid]
            task.leader_exited |= tid == task.pid
        return done

    def _waits_in_vfork(self, thread: FrozenThread) -> bool:
        child = vforks.child_of(thread.pid, thread.tid)
        if child:
            thread.child = lambda: self._tree.tasks[child].remote()
        return child != 0

    def _why_not(self, task: FrozenTask, tid: int, error: KernelError) -> Exception:
        try:
            status = procfs.status(task.pid, tid)
        except NoSuchTask as gone:
            return gone
        tracer = int(status.get("TracerPid", "0"))
        if tracer and tracer != os.getpid():
            return already_traced(task.pid, tracer)
        return not_permitted(task.pid, status, error.errno)

    def _wait_stop(self, task: FrozenTask, thread: FrozenThread) -> None:
        """Until the thread stands in a PTRACE_EVENT_STOP; a signal that comes first is delivered."""
        tid = thread.tid
        spins = 0
        while True:
            try:
                got, status = reports.poll(tid) if spins > 200 else os.waitpid(tid, os.WNOHANG | us.WALL)
            except ChildProcessError:
                got, status = tid, 0
                task.threads.pop(task.pid, None)  # it may be this thread by now, which has executed a program
            if got == 0:
                spins += 1
                if spins > 200:
                    for dead in executing.reap(t.tid for t in task.threads.values() if t.stopped and t is not thread):
                        del task.threads[dead]
                    if executing.stands(tid) and not os.waitid(os.P_PID, tid, _STOPPED):
                        self._stands(thread, 0)  # already, as another
                        return
                    if self._waits_in_vfork(thread):
                        return  # it went there just now; what it was asked for takes effect when it comes back
                    if time.monotonic() > self._end:
                        raise does_not_stop(task.pid, tid, self._deadline)
                    time.sleep(0.0002)
                else:
                    os.sched_yield()
                continue
            if not os.WIFSTOPPED(status):
                thread.stopped = False
                task.threads.pop(tid, None)
                if tid == task.pid and len(procfs_threads(task.pid)) > 1:
                    task.leader_exited = True
                return
            number = os.WSTOPSIG(status)
            if status >> 16 == uapi.PTRACE_EVENT_STOP:
                try:
                    self._stands(thread, number)
                    return
                except KernelError:
                    if executing.stands(tid):
                        raise
                    continue  # it was killed
            try:
                ptrace.interrupt(tid)  # a stop on the way into a single-stepped handler makes it forgotten
                ptrace.cont(tid, number & 0x7F)
            except KernelError:
                continue

    def _stands(self, thread: FrozenThread, number: int) -> None:
        """`number`: the signal of its group-stop, or another one."""
        homeward.lead(thread.pid, thread.tid)
        if number in GROUP_STOPS:
            thread.stop_signal = number
            thread.gpr = ptrace.getregset(thread.tid, uapi.NT_PRSTATUS)
        else:
            thread.gpr = waits.make_restartable(thread.tid)
        thread.gpr = critical_section.leave(thread.tid, thread.gpr)


def procfs_threads(pid: int) -> list[int]:
    """The tids of a process, empty when it is gone."""
    try:
        return procfs.threads(pid)
    except NoSuchTask:
        return []


def _is_keeper(pid: int) -> bool:
    """Of ckpt's, which started within the pid namespace: then init adopted it."""
    try:
        return keeper.is_keeper(pid)
    except OSError:
        return False
