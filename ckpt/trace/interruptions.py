"""Calls that the kernel ends with EINTR for any interruption, a freeze among them, instead of restarting them.

A thread that is frozen in one of them is made to restart it, as the kernel does after most others: with
ERESTARTNOHAND in the register of the result the kernel itself repeats the call when the thread goes on, or gives
EINTR when a signal handler is to run first. A relative timeout begins again.
"""

from __future__ import annotations

from ckpt.kernel import ptrace_requests as ptrace
from ckpt.kernel import uapi
from ckpt.trace.sigframe import ERESTARTNOHAND, ORIG_RAX, RAX, pack, unpack

# arch/x86/entry/syscalls/syscall_64.tbl. Sockets end with EINTR when they have a timeout (SO_RCVTIMEO, SO_SNDTIMEO);
# connect is not among them, for it would find itself under way.
_ENDED = {
    0: "read", 1: "write", 19: "readv", 20: "writev", 43: "accept", 44: "sendto", 45: "recvfrom", 46: "sendmsg",
    47: "recvmsg", 65: "semop", 128: "rt_sigtimedwait", 208: "io_getevents", 220: "semtimedop", 232: "epoll_wait",
    281: "epoll_pwait", 288: "accept4", 299: "recvmmsg", 307: "sendmmsg", 333: "io_pgetevents", 426: "io_uring_enter",
    441: "epoll_pwait2",
}  # fmt: skip
_M64 = (1 << 64) - 1
_EINTR = 4


def make_restartable(tid: int) -> None:
    """Of a thread that has just stopped for ckpt: let it repeat the call that the stop ended."""
    registers = unpack(ptrace.getregset(tid, uapi.NT_PRSTATUS))
    if registers[RAX] == _M64 + 1 - _EINTR and registers[ORIG_RAX] in _ENDED:
        registers[RAX] = _M64 + 1 - ERESTARTNOHAND
        ptrace.setregset(tid, uapi.NT_PRSTATUS, pack(registers))
