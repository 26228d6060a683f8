"""The keeper: a process of a few hundred bytes that holds a userfaultfd between two runs of ckpt.

It holds the userfaultfd and a pidfd of the target, nothing else, and ends with the target. Tracking lasts as
long as somebody holds the descriptor, so a killed keeper costs a full round and never a wrong page.
Each round marks it: by the mark a chain knows whether the last round was its own.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ckpt.errors import KernelError, NoSuchTask
from ckpt.kernel import procfs, tiny, userfault
from ckpt.kernel.descriptors import pidfd_open, steal_descriptor
from ckpt.kernel.libc import kernel_error
from ckpt.kernel.memory import Memory
from ckpt.kernel.ownership import owner_of

NAME = "ckpt-keeper"
HELD_FD = 3  # the userfaultfd
EPOCH_SIZE = 8
NO_EPOCH = bytes(EPOCH_SIZE).hex()  # of one that was just started
_TARGET_FD = 4  # a pidfd of the target
_REPORT_FD = 5  # a pipe on which the first process tells the keeper's pid

# x86_64. The first process forks, tells the pid and ends, so that init adopts and reaps the keeper. Where init may be
# of the target's tree, in a pid namespace that ckpt came into from outside, it is born beside ckpt instead.
_CODE = bytes.fromhex(
    "b839000000"  # mov eax, SYS_fork
    "0f05"  # syscall
    "85c0"  # test eax, eax
    "741e"  # jz keeper
    "50"  # push rax
    "4889e6"  # mov rsi, rsp
    "bf05000000"  # mov edi, _REPORT_FD
    "ba08000000"  # mov edx, 8
    "b801000000"  # mov eax, SYS_write
    "0f05"  # syscall
    # leave:
    "31ff"  # xor edi, edi
    "b83c000000"  # mov eax, SYS_exit
    "0f05"  # syscall
    # keeper: nothing else of ckpt's stays open, no file system stays busy
    "bf05000000"  # mov edi, _REPORT_FD
    "83ceff"  # or esi, -1
    "31d2"  # xor edx, edx
    "b8b4010000"  # mov eax, SYS_close_range
    "0f05"  # syscall
    "6a2f"  # push '/'
    "4889e7"  # mov rdi, rsp
    "b850000000"  # mov eax, SYS_chdir
    "0f05"  # syscall
    "6870657200"  # push 'per'
    "48b8636b70742d6b6565"  # mov rax, 'ckpt-kee'
    "50"  # push rax
    "4889e6"  # mov rsi, rsp
    "bf0f000000"  # mov edi, PR_SET_NAME
    "b89d000000"  # mov eax, SYS_prctl
    "0f05"  # syscall
    "48b80400000001000000"  # mov rax, struct pollfd {_TARGET_FD, POLLIN}
    "50"  # push rax
    # again:
    "4889e7"  # mov rdi, rsp
    "be01000000"  # mov esi, 1
    "83caff"  # or edx, -1
    "b807000000"  # mov eax, SYS_poll
    "0f05"  # syscall
    "85c0"  # test eax, eax
    "7eea"  # jle again
    "eb98"  # jmp leave
)
# For a target of another user than ckpt's: the keeper is that user's, who may go on with the chain.
_BECOME = (
    "31ff"  # xor edi, edi
    "31f6"  # xor esi, esi
    "b874000000"  # mov eax, SYS_setgroups
    "0f05"  # syscall
    "bf{gid}be{gid}ba{gid}"  # mov edi, gid; mov esi, gid; mov edx, gid
    "b877000000"  # mov eax, SYS_setresgid
    "0f05"  # syscall
    "bf{uid}be{uid}ba{uid}"  # mov edi, uid; mov esi, uid; mov edx, uid
    "b875000000"  # mov eax, SYS_setresuid
    "0f05"  # syscall
    "bf04000000"  # mov edi, PR_SET_DUMPABLE
    "be01000000"  # mov esi, 1
    "b89d000000"  # mov eax, SYS_prctl
    "0f05"  # syscall
)
_CODE_BESIDE = bytes.fromhex("eb29") + _CODE  # jmp keeper


@dataclass(frozen=True, slots=True)
class Keeper:
    """A keeper's identity; a reused pid has another start time."""

    pid: int
    start_time: int  # clock ticks since boot

    def alive(self) -> bool:
        """Whether it still runs."""
        try:
            return procfs.stat(self.pid).start_time == self.start_time and is_keeper(self.pid)
        except (NoSuchTask, OSError):
            return False

    def take(self) -> int:
        """A descriptor of ckpt's own for the userfaultfd; KernelError or NoSuchTask when it is gone."""
        fd = steal_descriptor(self.pid, HELD_FD)
        # The pid may have been reused before it was opened: look at what was taken, and at whom it came from.
        if not self.alive() or not userfault.is_userfaultfd(os.getpid(), fd):
            os.close(fd)
            raise NoSuchTask(f"the keeper {self.pid} is gone")
        return fd

    def end(self, deadline: float = 10.0) -> None:
        """Kill it and wait until its descriptors are closed; another process with its pid is left alone."""
        try:
            pidfd = pidfd_open(self.pid)
        except KernelError:
            return
        try:
            if not self.alive():
                return
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            poll = select.poll()
            poll.register(pidfd, select.POLLIN)
            poll.poll(deadline * 1000)
        except (ProcessLookupError, PermissionError):
            return
        finally:
            os.close(pidfd)


class Mark:
    """A keeper's word for the round that looked last, within reach. To be made before a freeze, for that takes longer.

    NoSuchTask or KernelError when the keeper is gone, now or later.
    """

    def __init__(self, keeper: Keeper) -> None:
        self.keeper = keeper
        self._memory = Memory(keeper.pid, write=True)
        weakref.finalize(self, self._memory.close)
        # The word above everything on the stack, which execve(2) leaves zero.
        stack = next((line for line in procfs.maps(keeper.pid) if line.path == "[stack]"), None)
        if stack is None or not keeper.alive():  # asked when its memory is open: what is read from here on is its own
            raise NoSuchTask(f"the keeper {keeper.pid} is gone")
        self._at = stack.end - EPOCH_SIZE

    def epoch(self) -> str:
        """Of the round that looked last."""
        return self._memory.read(self._at, EPOCH_SIZE).hex()

    def begin_epoch(self) -> str:
        """A new one: whoever knows an older one has missed what this round sees."""
        epoch = os.urandom(EPOCH_SIZE)
        self._memory.write(self._at, epoch)
        return epoch.hex()


def is_keeper(pid: int) -> bool:
    """OSError when this user may not look."""
    return os.readlink(f"/proc/{pid}/exe").startswith(f"/memfd:{NAME}")


def _high(fd: int) -> int:
    """A copy above the numbers that the keeper uses."""
    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _REPORT_FD + 1)


def _become(owner: tuple[int, int] | None) -> bytes:
    if owner is None:
        return b""
    uid, gid = (number.to_bytes(4, "little").hex() for number in owner)
    return bytes.fromhex(_BECOME.format(uid=uid, gid=gid))


def start(uffd: int, target: int) -> Keeper:
    """Start a keeper for `uffd` that ends with process `target`; it is of the same user, if he has no privileges."""
    opened: list[int] = []
    try:
        reader, writer = os.pipe2(os.O_CLOEXEC)
        opened += [reader, writer]
        opened.append(pidfd := pidfd_open(target))
        beside = not os.getppid()
        owner = owner_of(target)
        opened.append(memfd := tiny.memfd(NAME, tiny.elf(_CODE_BESIDE if beside else _become(owner) + _CODE)))
        high: list[int] = []
        for fd in (uffd, pidfd, writer, memfd):
            high.append(_high(fd))
            opened.append(high[-1])
        actions = [(os.POSIX_SPAWN_DUP2, *pair) for pair in zip(high, (HELD_FD, _TARGET_FD, _REPORT_FD), strict=False)]
        if beside:
            pid = tiny.spawn_beside(high[3], NAME, zip(high, (HELD_FD, _TARGET_FD), strict=False), owner)
            return Keeper(pid, procfs.stat(pid).start_time)
        first = tiny.spawn(high[3], NAME, actions)
        os.close(writer)
        os.close(high[2])
        opened.remove(writer)
        opened.remove(high[2])
        report = os.read(reader, 8)
        try:
            os.waitpid(first, 0)
        except ChildProcessError:
            pass  # the embedding program ignores SIGCHLD
    except OSError as error:
        raise kernel_error("starting the keeper", error.errno or 0) from None
    finally:
        for fd in opened:
            os.close(fd)
    pid = int.from_bytes(report, "little", signed=True)
    if len(report) != 8 or pid <= 0:
        raise KernelError("the keeper of the userfaultfd could not be started")
    return Keeper(pid, procfs.stat(pid).start_time)


def start_witness(target: int) -> Keeper:
    """One that holds nothing of the target's: where a tracker needs no descriptor, it tells the epochs apart."""
    try:
        fd = os.eventfd(0)
    except OSError as error:
        raise kernel_error("eventfd", error.errno or 0) from None
    try:
        return start(fd, target)
    finally:
        os.close(fd)


def find(target: int) -> Iterator[Keeper]:
    """Every keeper that waits for `target`: those of a round that never committed, or of another chain."""
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            if not is_keeper(int(name)):
                continue
            info = Path(f"/proc/{name}/fdinfo/{_TARGET_FD}").read_text()
            if f"Pid:\t{target}\n" in info:
                yield Keeper(int(name), procfs.stat(int(name)).start_time)
        except (OSError, NoSuchTask):
            continue
