"""The start of a skeleton: a process with a wanted pid that executes a tiny program, taken and made bare."""

from __future__ import annotations

import os
import signal

from ckpt.kernel import procfs, uapi, uapi_restore
from ckpt.kernel import ptrace_requests as ptrace
from ckpt.trace import stub
from ckpt.trace.sigframe import ORIG_RAX, RIP, RSP, unpack
from ckpt.trace.skeleton import OPTIONS, PAGE, SCRATCH_SIZE, Block, Skeleton

_ALL = (1 << 64) - 1
_ALL_BUT_TRAP = _ALL & ~(1 << (signal.SIGTRAP - 1))


def spawn_skeleton(pid: int, stub_address: int, keep: int = -1) -> Skeleton:
    """A stopped bare task with this pid (0: any), its block at `stub_address`; a child of ckpt.

    It holds no descriptor but `keep`, an inheritable one of ckpt (-1: none).
    KernelError with EEXIST when the pid is taken, EPERM when the user may not choose pids.
    """
    block = Block(stub_address)
    old = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        started = stub.start(pid, stub_address)
        try:
            return _take(started, block, keep)
        except BaseException:
            os.kill(started, signal.SIGKILL)
            os.waitpid(started, uapi_restore.WALL)
            raise
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, old)


def take_skeleton(pid: int, stub_address: int) -> Skeleton:
    """The same of a stub that another process has started; it holds no descriptor."""
    return _take(pid, Block(stub_address), -1)


def _take(pid: int, block: Block, keep: int) -> Skeleton:
    """Seize the started stub and turn it into a skeleton."""
    ptrace.seize(pid, OPTIONS)
    ptrace.interrupt(pid)
    entry = Skeleton(pid, pid, block, [0] * 27)
    entry._wait_first_stop()
    ptrace.setsigmask(pid, _ALL_BUT_TRAP)
    base = unpack(ptrace.getregset(pid, uapi.NT_PRSTATUS))
    base[ORIG_RAX] = _ALL  # -1: no interrupted call
    base[RSP] = block.scratch + SCRATCH_SIZE
    # The first calls run on the ELF's own page, over its code.
    entry.memory.write(block.start, stub.GADGET)
    first = Skeleton(pid, pid, Block(block.start - PAGE), base)
    first._base[RIP] = block.start
    flags = uapi.MAP_PRIVATE | uapi.MAP_ANONYMOUS | uapi.MAP_FIXED_NOREPLACE
    first.syscall(uapi.SYS_mmap, block.gadget, PAGE + SCRATCH_SIZE, uapi.PROT_READ | uapi.PROT_WRITE, flags, _ALL, 0)
    entry.memory.write(block.gadget, stub.GADGET)
    first.syscall(uapi.SYS_mprotect, block.gadget, PAGE, uapi.PROT_READ | uapi.PROT_EXEC)
    first.close_memory()
    base[RIP] = block.gadget
    skeleton = Skeleton(pid, pid, block, base)
    skeleton._memory = entry._memory
    _bare(skeleton, keep)
    return skeleton


def _bare(skeleton: Skeleton, keep: int) -> None:
    """Leave nothing but the block, vdso, vvar and descriptor `keep`; signal actions and pdeathsig default."""
    for line in procfs.maps(skeleton.pid):
        if line.path.startswith(("[vdso", "[vvar", "[vsyscall")) or line.start == skeleton.block.gadget:
            continue
        if skeleton.block.scratch <= line.start < skeleton.block.end:
            continue
        skeleton.syscall(uapi.SYS_munmap, line.start, line.end - line.start)
    ignored = int(procfs.status(skeleton.pid)["SigIgn"], 16)
    default = skeleton.put(bytes(32), 1024)
    for number in range(1, 65):
        if ignored >> (number - 1) & 1:
            skeleton.syscall(uapi.SYS_rt_sigaction, number, default, 0, 8)
    if keep > 0:
        skeleton.syscall(uapi.SYS_close_range, 0, keep - 1, 0)
    skeleton.syscall(uapi.SYS_close_range, keep + 1, 0xFFFFFFFF, 0)
    skeleton.syscall(uapi.SYS_prctl, uapi_restore.PR_SET_PDEATHSIG, 0)
