"""What each kind of open file that is not a socket, terminal or message queue keeps in an image.

A `FileRecord` carries one of these as its payload. What several descriptions share (the data of a pipe, the
contents of a deleted file) stands in a record of its own, named by `key`.
"""

from __future__ import annotations

from dataclasses import dataclass

from ckpt.records.base import record


@record("file-none")
class NoPayload:
    """Nothing beyond what the FileRecord says."""


@dataclass(frozen=True, slots=True)
class Handle:
    """The file handle of an inode (name_to_handle_at), for a file that no path leads to."""

    mount: str  # a mount point of its file system
    kind: int  # handle_type
    data: bytes  # f_handle


@record("file-path")
class PathFile:
    """A file, directory, device or symbolic link that is opened again by its path."""

    path: str
    mode: int  # st_mode
    size: int  # bytes; 0 unless it is a regular file
    mtime_ns: int
    mapped: bool = False  # some mapping stands on its contents
    virtual: bool = False  # in /proc or /sys, where size and time say nothing
    rdev: int = 0  # of a device node that has no name any more
    handle: Handle | None = None  # by which it is opened instead
    ended: int = 0  # the process or thread in /proc, gone by now, that it belongs to
    uid: int = -1  # of such a node; -1: as it is made
    gid: int = -1
    trigger: str = ""  # of a file of pressure stall information: what was written, "some 150000 1000000"


@record("file-place")
class PlaceFile:
    """An O_PATH descriptor of what has no path: of a file that is open otherwise, or of a node without a name."""

    file_id: int = 0  # of the description that leads there
    key: str = ""  # "<dev>:<ino>" of the node, when there is none
    path: str = ""  # the name that the node had
    mode: int = 0  # st_mode
    rdev: int = 0
    target: str = ""  # of a symbolic link
    uid: int = 0
    gid: int = 0


@record("file-ghost")
class GhostFile:
    """A description of a file that has no name any more."""

    key: str  # of the GhostRecord
    tmpfile: bool  # opened with O_TMPFILE


@record("ghost")
class GhostRecord:
    """A file or directory without a name, or one that may lose it; its contents stand in GhostData records."""

    key: str  # "<dev>:<ino>"
    path: str  # the name it had, or has
    mode: int
    uid: int
    gid: int
    size: int
    mtime_ns: int
    atime_ns: int = 0
    xattrs: tuple[tuple[str, bytes], ...] = ()


@record("ghost-data")
class GhostData:
    """Some consecutive bytes of a file without a name; what no record covers is a hole."""

    key: str
    offset: int
    data: bytes


@record("file-pipe")
class PipeEnd:
    """A description of a pipe or FIFO; which end it is says O_ACCMODE."""

    key: str  # of the PipeRecord
    unmet: bool = False  # a reader of a FIFO that nobody has written to since it was opened: poll shows no POLLHUP


@record("pipe")
class PipeRecord:
    """A pipe or FIFO with what waits in it."""

    key: str  # "<dev>:<ino>"
    path: str  # of a FIFO; "" for a pipe
    deleted: bool  # a FIFO without a name
    mode: int
    uid: int
    gid: int
    capacity: int  # F_GETPIPE_SZ
    packets: bool  # each chunk was written as one packet (O_DIRECT)
    chunks: tuple[bytes, ...]  # of a pipe that is neither in packet mode nor `apart`: one
    outside: bool = False  # a process outside the tree held an end
    handle: Handle | None = None  # by which a FIFO is opened instead
    mtime_ns: int = 0
    atime_ns: int = 0
    apart: bool = False  # each chunk stands in a buffer of its own, and the last one takes what is written next


@record("file-memfd")
class MemfdFile:
    """A description of a memfd; its contents are the shared memory object's."""

    shm: str  # key of the ShmRecord


@record("file-eventfd")
class EventFd:
    """eventfd(2)."""

    count: int
    semaphore: bool


@record("file-timerfd")
class TimerFd:
    """timerfd_create(2); times in nanoseconds."""

    clock_id: int
    ticks: int  # expirations not yet read
    settime_flags: int  # TFD_TIMER_*
    value_ns: int  # what is left; 0 when disarmed
    interval_ns: int
    deadline_ns: int  # absolute, for an armed TFD_TIMER_ABSTIME timer on the real-time clock; else 0


@record("file-signalfd")
class SignalFd:
    """signalfd(2)."""

    sigmask: int  # bit n-1 is signal n


@dataclass(frozen=True, slots=True)
class EpollWatch:
    """One file that an epoll instance watches."""

    tfd: int  # the number that it was added under
    file_id: int
    events: int
    data: int
    in_table: bool  # the number still refers to the file in the table of EpollFile.pid
    taken: bool = False  # edge-triggered, and the edge that brought it to its present state was reported


@record("file-epoll")
class EpollFile:
    """epoll_create1(2); the watches are added by task `pid`, whose descriptor `fd` it is."""

    pid: int
    fd: int
    watches: tuple[EpollWatch, ...]
    busy_poll: bytes = b""  # struct epoll_params, unless it is all zeros


@dataclass(frozen=True, slots=True)
class InotifyWatch:
    """One watch of an inotify instance."""

    wd: int
    path: str
    mask: int
    file_id: int = 0  # of the open file, when it has no name any more


@record("file-inotify")
class InotifyFile:
    """inotify_init1(2)."""

    watches: tuple[InotifyWatch, ...]
    overflow: bool = False  # events were waiting


@dataclass(frozen=True, slots=True)
class FanotifyMark:
    """One mark of a fanotify group."""

    kind: int  # FAN_MARK_MOUNT, FAN_MARK_FILESYSTEM, 0 for an inode
    path: str
    file_id: int  # of the open file, when it has no name any more
    flags: int  # FAN_MARK_*
    mask: int
    ignored: int


@record("file-fanotify")
class FanotifyFile:
    """fanotify_init(2)."""

    flags: int
    event_flags: int
    marks: tuple[FanotifyMark, ...]
    overflow: bool = False  # events were waiting


@record("file-pidfd")
class PidFd:
    """pidfd_open(2) of a task, in the tree or outside."""

    pid: int  # 0: the process is gone
    start_time: int  # field 22 of its /proc/PID/stat for a process outside the tree; 0 for a task inside
    ino: int = 0  # of a process that is gone: the same for pidfds of one process
    status: int = 0  # of a process that is gone: its wait status, which PIDFD_GET_INFO tells


@record("file-bpf-map")
class BpfMapFile:
    """A description of a BPF map."""

    map_id: int  # of the BpfMapRecord


@record("bpf-map")
class BpfMapRecord:
    """A BPF map with its elements; of arrays, those that are not all zeros."""

    map_id: int
    type: int  # BPF_MAP_TYPE_*
    key_size: int
    value_size: int
    max_entries: int
    map_flags: int
    name: bytes
    map_extra: int
    frozen: bool
    keys: bytes  # one behind the other
    values: bytes  # in the order of the keys; with a value for each CPU, those of all, in steps of 8 bytes


@record("file-namespace")
class NamespaceFile:
    """A namespace that the tree lives in, opened as a file."""

    name: str  # net, mnt, pid, …: the name in /proc/PID/ns


@record("file-lock")
class FileLock:
    """A lock or lease on an open file."""

    file_id: int
    kind: str  # flock | posix | ofd | lease
    write: bool
    start: int
    end: int  # inclusive; -1 is the end of the file
    pid: int  # whose descriptor `fd` holds it; posix locks and leases are set by that task
    fd: int
    breaking: bool = False  # a lease that its holder has been asked to give up
    downgrade: bool = False  # to one for reading
