"""The records of tasks and threads: what holds them together. The kinds of state inside are in `state.py`."""

from __future__ import annotations

from ckpt.records.base import record
from ckpt.records.state import (
    Attributes,
    Credentials,
    FsState,
    IntervalTimer,
    PosixTimer,
    PrctlState,
    Registers,
    ResourceLimit,
    RseqState,
    Scheduling,
    SeccompState,
    SigAction,
    SigAltStack,
    SigInfo,
)


@record("thread")
class ThreadRecord:
    """One thread, registers and all."""

    tid: int
    pid: int
    comm: str
    registers: Registers
    sigmask: int  # bit n-1 blocks signal n
    pending: tuple[SigInfo, ...]
    altstack: SigAltStack
    credentials: Credentials
    scheduling: Scheduling
    rseq: RseqState | None
    robust_list: tuple[int, int] | None  # head, length
    clear_child_tid: int
    pdeathsig: int
    seccomp: SeccompState | None
    prctl: PrctlState
    wait_left_ns: int = -1  # of the timed wait in which the thread was interrupted; -1 when there is none
    fs: FsState | None = None  # of a thread that has directories and umask of its own (unshare(CLONE_FS))
    dispatch: tuple[int, ...] = ()  # PR_SET_SYSCALL_USER_DISPATCH: mode, selector, offset, length
    vfork: int = 0  # the child for whose end or exec it waits in vfork; the registers are those after that
    ports: tuple[tuple[int, int], ...] = ()  # first and number of those that ioperm allows
    fs_tid: int = 0  # the thread whose directories it uses, itself if they are its own; 0: the process's
    debug: tuple[int, ...] = ()  # DR0 to DR3, DR6, DR7, where breakpoints are set
    personality: int = -1  # -1: the process's (Attributes)
    cgroups: tuple[str, ...] = ()  # /proc/PID/task/TID/cgroup of a thread that is elsewhere than its process
    areas: tuple[bytes, ...] = ()  # struct user_desc of the segments that set_thread_area has made


@record("task")
class TaskRecord:
    """One process; its threads stand in ThreadRecords, its memory in an MmRecord."""

    pid: int
    ppid: int  # 0 when the parent is outside the tree
    pgid: int
    sid: int
    tids: tuple[int, ...]  # of those that live, the leader first
    state: str  # alive | stopped | zombie
    exit_code: int  # as waitpid's status; zombies only
    exit_signal: int
    stop_signal: int  # the signal that stopped it, 0 if none
    mm_id: int  # 0 for a zombie
    table_id: int  # FdTable; 0 for a zombie
    sighand_id: int  # tasks that share signal actions (CLONE_SIGHAND) name the same pid
    fs_id: int  # tasks that share cwd, root and umask (CLONE_FS) name the same pid, or tid
    fs: FsState | None
    sigactions: tuple[SigAction, ...]
    pending: tuple[SigInfo, ...]  # the process-wide queue
    itimers: tuple[IntervalTimer, ...]
    posix_timers: tuple[PosixTimer, ...]
    rlimits: tuple[ResourceLimit, ...]
    attributes: Attributes
    ctty_file: str = ""  # path of the controlling terminal, when the session has one ("/dev/pts/3")
    parent_tid: int = 0  # the thread of the parent that made it, 0 when the parent is outside the tree
    news: str = ""  # stopped | continued: what its parent has not waited for yet
    thread_fs: tuple[tuple[int, int], ...] = ()  # tid, fs_id of threads that share another than `fs_id`
    thread_tables: tuple[tuple[int, int], ...] = ()  # tid, table_id of threads that use another than `table_id`
    zombie: tuple[str, tuple[int, ...], tuple[int, ...]] | None = None  # comm; real, effective, saved uids and gids
    leader: tuple[str, int] | None = None  # comm and wait status of a first thread that has ended while others run
