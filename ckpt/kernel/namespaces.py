"""Namespaces: entering new ones and those of a task, a /proc of one's own, clocks, and the init of a pid namespace."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import NoReturn

from ckpt.errors import KernelError, NoSuchTask
from ckpt.kernel import procfs, tiny, uapi
from ckpt.kernel import uapi_namespaces as un
from ckpt.kernel import uapi_state as us
from ckpt.kernel.descriptors import pidfd_of_holder
from ckpt.kernel.libc import kernel_error, syscall

_LINKS = {"user": un.CLONE_NEWUSER, "pid": un.CLONE_NEWPID, "mnt": un.CLONE_NEWNS, "time": un.CLONE_NEWTIME}
INIT = 1
"""The pid of the first process of a pid namespace, as it is known in there."""
STATUS_FD = 3
"""The descriptor on which the init of a pid namespace tells the wait status of the process it was started for."""

_INIT = (
    "6a00"  # push 0
    "48b8636b70742d696e69"  # mov rax, 'ckpt-ini'
    "50"  # push rax
    "c644240874"  # mov byte [rsp+8], 't'
    "4889e6"  # mov rsi, rsp
    "bf0f000000"  # mov edi, PR_SET_NAME
    "b89d000000"  # mov eax, SYS_prctl
    "0f05"  # syscall
    # again:
    "b83d000000"  # mov eax, SYS_wait4
    "4883cfff"  # or rdi, -1
    "4889e6"  # mov rsi, rsp
    "ba00000040"  # mov edx, __WALL
    "4531d2"  # xor r10d, r10d
    "0f05"  # syscall
    "3d{pid}"  # cmp eax, the pid
    "743a"  # je root
    "85c0"  # test eax, eax
    "79df"  # jns again
    "83f8fc"  # cmp eax, -EINTR
    "74da"  # je again
    # No child is left; but a dump may be at work that came in from outside, and would die with init.
    "b83e000000"  # mov eax, SYS_kill
    "4883cfff"  # or rdi, -1
    "31f6"  # xor esi, esi
    "0f05"  # syscall
    "85c0"  # test eax, eax
    "7817"  # js leave
    "6880f0fa02"  # push 50_000_000
    "6a00"  # push 0
    "4889e7"  # mov rdi, rsp
    "31f6"  # xor esi, esi
    "b823000000"  # mov eax, SYS_nanosleep
    "0f05"  # syscall
    "58"  # pop rax
    "58"  # pop rax
    "ebb2"  # jmp again
    # leave:
    "31ff"  # xor edi, edi
    "b8e7000000"  # mov eax, SYS_exit_group
    "0f05"  # syscall
    # root:
    "b801000000"  # mov eax, SYS_write
    "bf03000000"  # mov edi, STATUS_FD
    "4889e6"  # mov rsi, rsp
    "ba04000000"  # mov edx, 4
    "0f05"  # syscall
    "b803000000"  # mov eax, SYS_close
    "bf03000000"  # mov edi, STATUS_FD
    "0f05"  # syscall
    "eb87"  # jmp again
)


def living_thread(pid: int) -> int:
    """A thread of the process that has not ended: it has namespaces and a root directory, which the first may not."""
    return next((tid for tid in procfs.threads(pid) if procfs.state(pid, tid) not in "ZX"), pid)


def differing(tid: int) -> int:
    """The CLONE_NEW* flags of user, pid, mount and time namespaces in which the thread is and this process is not.

    An IPC namespace is the tree's own, unless a restore made it.
    """
    flags = 0
    for name, flag in _LINKS.items():
        try:
            theirs, ours = os.stat(f"/proc/{tid}/ns/{name}"), os.stat(f"/proc/self/ns/{name}")
        except OSError:
            continue  # this kernel has no such namespaces, or this user may not look: the freezer says so
        if (theirs.st_dev, theirs.st_ino) != (ours.st_dev, ours.st_ino):
            flags |= flag
    return flags | un.CLONE_NEWIPC if flags & un.CLONE_NEWPID and _restored_with_ipc(tid) else flags


def _restored_with_ipc(tid: int) -> bool:
    """Whether a restore made an IPC namespace, which is not ours, together with the thread's pid namespace."""
    try:
        pid = int(procfs.status(tid)["Tgid"])
        while pid and pid_inside(pid) != INIT:
            pid = procfs.stat(pid).ppid
        if not pid or procfs.stat(pid).comm != "ckpt-init":
            return False
        theirs, init, ours = (os.stat(f"/proc/{who}/ns/ipc").st_ino for who in (tid, pid, "self"))
    except (NoSuchTask, OSError):
        return False
    return theirs == init != ours


def pid_inside(pid: int) -> int:
    """The pid of a process in its own, innermost pid namespace."""
    return int(procfs.status(pid)["NSpid"].split()[-1])


def unshare(flags: int) -> None:
    """New namespaces; that of pids and that of time are for the children."""
    syscall(f"unshare({flags:#x})", un.SYS_unshare, flags)


def enter(tid: int, flags: int) -> None:
    """The namespaces of a thread; those of pids and of time are for the children. The working directory stays."""
    pidfd = pidfd_of_holder(tid)
    here = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        syscall(f"setns({tid}, {flags:#x})", un.SYS_setns, pidfd, flags)
        os.fchdir(here)  # a new mount namespace begins at its root
    finally:
        os.close(pidfd)
        os.close(here)


@contextmanager
def visiting(tid: int, name: str, flag: int) -> Iterator[None]:
    """This thread of ckpt in a namespace of another thread, for a moment; not for user, pid and time namespaces."""
    try:
        ours = os.open(f"/proc/thread-self/ns/{name}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise kernel_error(f"opening ns/{name}", error.errno or 0) from None
    try:
        try:
            theirs = os.open(f"/proc/{tid}/ns/{name}", os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise kernel_error(f"opening ns/{name} of thread {tid}", error.errno or 0) from None
        try:
            syscall(f"setns({name} of {tid})", un.SYS_setns, theirs, flag)
        finally:
            os.close(theirs)
        try:
            yield
        finally:
            syscall(f"setns({name})", un.SYS_setns, ours, flag)
    finally:
        os.close(ours)


def inhabitants(kind: str, identity: tuple[int, int]) -> Iterator[int]:
    """The processes in a namespace, as far as this user may look."""
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            found = os.stat(f"/proc/{name}/ns/{kind}")
        except OSError:
            continue  # gone, or somebody else's
        if (found.st_dev, found.st_ino) == identity:
            yield int(name)


def kept_at(kind: str, identity: tuple[int, int]) -> str | None:
    """Where a namespace is mounted, as by `ip netns add`, so that it outlives its processes; None: nowhere here."""
    text = procfs.read_bytes("/proc/self/mountinfo", os.getpid()).decode("utf-8", "surrogateescape")
    fields = map(str.split, text.splitlines())
    return next((field[4] for field in fields if field[3] == f"{kind}:[{identity[1]}]"), None)


def ipc_objects() -> bool:
    """Whether there is a SysV object or a POSIX message queue in this thread's IPC namespace."""
    for kind in ("shm", "sem", "msg"):
        try:
            if len(Path(f"/proc/sysvipc/{kind}").read_text().splitlines()) > 1:
                return True
        except OSError:
            continue  # this kernel has no SysV IPC
    try:
        context = syscall("fsopen(mqueue)", un.SYS_fsopen, ctypes.create_string_buffer(b"mqueue"), 1)
    except KernelError as error:
        if error.errno == errno.ENODEV:
            return False  # nor POSIX queues
        raise
    try:
        syscall("fsconfig(mqueue)", un.SYS_fsconfig, context, un.FSCONFIG_CMD_CREATE, 0, 0, 0)
        queues = syscall("fsmount(mqueue)", un.SYS_fsmount, context, 1, 0)
    finally:
        os.close(context)
    try:
        root = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=queues)
        try:
            return bool(os.listdir(root))
        finally:
            os.close(root)
    except OSError as error:
        raise kernel_error("listing message queues", error.errno or 0) from None
    finally:
        os.close(queues)


def map_own_ids(uid: int, gid: int) -> None:
    """In a new user namespace of this process: its own ids, which were `uid` and `gid`, under their own numbers."""
    _write("setgroups", "deny")  # without it nobody may map groups
    _write("uid_map", f"{uid} {uid} 1")
    _write("gid_map", f"{gid} {gid} 1")


def set_clock_offsets(offsets: Mapping[str, int]) -> None:
    """Set "monotonic" and "boottime" of the new time namespace of this process's children, in nanoseconds."""
    lines = (f"{clock} {ns // 10**9} {ns % 10**9}\n" for clock, ns in offsets.items())
    _write("timens_offsets", "".join(lines))


def clock_offsets() -> dict[str, int]:
    """Those of this process's time namespace, in nanoseconds; zero where the kernel has none."""
    try:
        lines = Path("/proc/self/timens_offsets").read_text().splitlines()
    except OSError:
        return {"monotonic": 0, "boottime": 0}
    return {clock: int(seconds) * 10**9 + int(ns) for clock, seconds, ns in map(str.split, lines)}


def timer_clock_ns(clock: int) -> int:
    """A clock as the kernel's timers go by it: in no time namespace."""
    offsets = _own_offsets(os.getpid())
    shift = {time.CLOCK_MONOTONIC: offsets["monotonic"], time.CLOCK_BOOTTIME: offsets["boottime"]}
    return time.clock_gettime_ns(clock) - shift.get(clock, 0)


@lru_cache(maxsize=1)
def _own_offsets(pid: int) -> dict[str, int]:
    """Asked for with every thread that sleeps; a process of ours that enters other namespaces is another one."""
    return clock_offsets()


def _write(name: str, text: str) -> None:
    try:
        Path(f"/proc/self/{name}").write_text(text)
    except OSError as error:
        raise kernel_error(f"writing {text!r} to /proc/self/{name}", error.errno or 0) from None


def mount_proc() -> None:
    """In a new mount namespace: a /proc that shows the pid namespace of this process."""
    _mount("none", "/", None, un.MS_REC | un.MS_PRIVATE)
    _mount("proc", "/proc", "proc", un.MS_NOSUID | un.MS_NODEV | un.MS_NOEXEC)


def mount_terminals() -> None:
    """In a new mount namespace: terminals of its own, whose numbers are all free."""
    _mount("devpts", "/dev/pts", "devpts", un.MS_NOSUID | un.MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620")
    if not os.path.samefile("/dev/ptmx", "/dev/pts/ptmx"):
        _mount("/dev/pts/ptmx", "/dev/ptmx", None, un.MS_BIND)


def _mount(source: str, target: str, kind: str | None, flags: int, data: str = "") -> None:
    words = [None if word is None else ctypes.create_string_buffer(word.encode()) for word in (source, target, kind)]
    more = ctypes.create_string_buffer(data.encode())
    syscall(f"mount({source}, {target})", un.SYS_mount, *(word or 0 for word in words), flags, more)


def keep_capabilities() -> None:
    """Let the capabilities of this process outlast an exec, which takes them from all but user 0."""
    mask = int(procfs.status(os.getpid())["CapPrm"], 16)
    low, high = mask & 0xFFFFFFFF, mask >> 32
    header = ctypes.create_string_buffer(us.cap_header.pack(us.LINUX_CAPABILITY_VERSION_3, 0))
    data = ctypes.create_string_buffer(us.cap_data.pack(low, low, low, high, high, high))
    syscall("capset", uapi.SYS_capset, header, data)
    for capability in range(64):
        if mask >> capability & 1:
            syscall(
                "prctl(PR_CAP_AMBIENT)", uapi.SYS_prctl, us.PR_CAP_AMBIENT, us.PR_CAP_AMBIENT_RAISE, capability, 0, 0
            )


def die_with_parent(signal: int) -> None:
    """The signal that comes when the thread that made this process ends; 0 for none."""
    syscall("prctl(PR_SET_PDEATHSIG)", uapi.SYS_prctl, un.PR_SET_PDEATHSIG, signal, 0, 0, 0)


def become_init(root: int, status_fd: int) -> NoReturn:
    """Go on as a tiny init: it reaps, tells the wait status of `root` on `status_fd`, and ends when nobody is left.

    Does not return: KernelError when it fails.
    """
    code = bytes.fromhex(_INIT.format(pid=root.to_bytes(4, "little").hex()))
    program = fcntl.fcntl(tiny.memfd("ckpt-init", tiny.elf(code)), fcntl.F_DUPFD_CLOEXEC, STATUS_FD + 1)
    null = os.open(os.devnull, os.O_RDWR)
    try:
        os.dup2(status_fd, STATUS_FD)
        for number in range(STATUS_FD):
            os.dup2(null, number)
        os.closerange(STATUS_FD + 1, program)
        os.closerange(program + 1, 1 << 20)
        os.chdir("/")
        os.execve(program, ["ckpt-init"], {})
    except OSError as error:
        raise KernelError(f"starting the init of the pid namespace: {error.strerror}", errno=error.errno or 0) from None
