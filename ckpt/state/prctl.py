"""What prctl(2) keeps for each thread, and the two values (dumpable, THP) that it keeps for an address space."""

from __future__ import annotations

import functools
from pathlib import Path

from ckpt.errors import KernelError
from ckpt.kernel import procfs, taskinfo, uapi
from ckpt.kernel import uapi_state as us
from ckpt.records.seams import RemoteTask
from ckpt.records.state import PrctlState
from ckpt.records.support import Support
from ckpt.state.rebuild import rebuilding

SUPPORT = Support(
    "tasks",
    "prctl",
    "dumpable, THP-disable, pdeathsig, TSC, CPUID and machine-check modes, speculation control, I/O flusher",
)

# ------------------------------------------------------------------ each thread


def collect_tsc_mode(remote: RemoteTask) -> int:
    """PR_GET_TSC: PR_TSC_ENABLE (1) or PR_TSC_SIGSEGV (2), which a thread inherits from its creator."""
    buffer = remote.put(bytes(8))
    remote.syscall(uapi.SYS_prctl, us.PR_GET_TSC, buffer, 0, 0, 0)
    return int.from_bytes(remote.read(buffer, 4), "little")


@functools.cache
def _cpuid_may_fault() -> bool:
    try:
        return " cpuid_fault" in Path("/proc/cpuinfo").read_text().partition("\n\n")[0]
    except OSError:
        return True


def collect_cpuid_faults(remote: RemoteTask) -> bool:
    """ARCH_GET_CPUID: whether the instruction is forbidden to the thread, which starts with its creator's."""
    return _cpuid_may_fault() and remote.syscall(uapi.SYS_arch_prctl, us.ARCH_GET_CPUID, 0) == 0


def collect_prctl(
    remote: RemoteTask, status: dict[str, str], flags: int, securebits: int, tsc_mode: int, cpuid_faults: bool = False
) -> PrctlState:
    """`flags`: of the thread's stat. They tell when nothing need be asked of the thread, which is nearly always."""
    mce_kill = us.PR_MCE_KILL_DEFAULT
    if flags & us.PF_MCE_PROCESS:
        mce_kill = remote.syscall(uapi.SYS_prctl, us.PR_MCE_KILL_GET, 0, 0, 0, 0)
    return PrctlState(
        keepcaps=bool(securebits & us.SECBIT_KEEP_CAPS),
        tsc_mode=tsc_mode,
        mce_kill=mce_kill,
        io_flusher=bool(flags & us.PF_MEMALLOC_NOIO) and _io_flusher(remote),
        speculation=taskinfo.speculation(status),
        cpuid_faults=cpuid_faults,
    )


def _io_flusher(remote: RemoteTask) -> bool:
    try:
        return bool(remote.syscall(uapi.SYS_prctl, us.PR_GET_IO_FLUSHER, 0, 0, 0, 0))
    except KernelError:
        return True  # without CAP_SYS_RESOURCE even asking is refused; the flag was seen


def restore_prctl(remote: RemoteTask, record: PrctlState) -> None:
    """Before the credentials; keepcaps is a securebit and is restored with them."""
    pid = remote.pid
    stat = procfs.stat(pid, remote.tid)
    status = procfs.status(pid, remote.tid)
    now = collect_prctl(remote, status, stat.flags, 0, collect_tsc_mode(remote))
    if record.tsc_mode != now.tsc_mode:
        with rebuilding(pid, "PR_SET_TSC"):
            remote.syscall(uapi.SYS_prctl, us.PR_SET_TSC, record.tsc_mode, 0, 0, 0)
    if record.cpuid_faults != collect_cpuid_faults(remote):
        with rebuilding(pid, "ARCH_SET_CPUID", hint="restore on a machine whose CPU has it"):
            remote.syscall(uapi.SYS_arch_prctl, us.ARCH_SET_CPUID, int(not record.cpuid_faults))
    if record.mce_kill != now.mce_kill:
        with rebuilding(pid, "PR_MCE_KILL"):
            remote.syscall(uapi.SYS_prctl, us.PR_MCE_KILL, us.PR_MCE_KILL_SET, record.mce_kill, 0, 0)
    if record.io_flusher != now.io_flusher:
        with rebuilding(pid, "PR_SET_IO_FLUSHER", hint="ckpt needs CAP_SYS_RESOURCE for it"):
            remote.syscall(uapi.SYS_prctl, us.PR_SET_IO_FLUSHER, int(record.io_flusher), 0, 0, 0)
    for feature, wanted in enumerate(record.speculation):
        have = now.speculation[feature] if feature < len(now.speculation) else 0
        if wanted != have and wanted & us.PR_SPEC_PRCTL:
            with rebuilding(pid, f"PR_SET_SPECULATION_CTRL {feature}"):
                control = wanted & ~us.PR_SPEC_PRCTL
                remote.syscall(uapi.SYS_prctl, us.PR_SET_SPECULATION_CTRL, feature, control, 0, 0)


def restore_pdeathsig(remote: RemoteTask, signal: int) -> None:
    """After the credentials, whose change resets it."""
    if signal:
        with rebuilding(remote.pid, "the parent-death signal"):
            remote.syscall(uapi.SYS_prctl, us.PR_SET_PDEATHSIG, signal, 0, 0, 0)


# ------------------------------------------------------------------ the address space (fields of MmRecord)


def collect_dumpable(remote: RemoteTask, status: dict[str, str]) -> int:
    """PR_GET_DUMPABLE; for a task of another user than root /proc says it without a remote syscall."""
    uid = int(status["Uid"].split()[1])
    if uid and taskinfo.owner(remote.tid) == uid:
        return 1
    return remote.syscall(uapi.SYS_prctl, us.PR_GET_DUMPABLE, 0, 0, 0, 0)


def restore_dumpable(remote: RemoteTask, value: int) -> None:
    """After all credentials of all threads, whose change resets it. 2 (root only) cannot be asked for: it becomes 0,
    which protects as much."""
    wanted = 1 if value == 1 else 0
    with rebuilding(remote.pid, "dumpable"):
        if remote.syscall(uapi.SYS_prctl, us.PR_GET_DUMPABLE, 0, 0, 0, 0) != wanted:
            remote.syscall(uapi.SYS_prctl, us.PR_SET_DUMPABLE, wanted, 0, 0, 0)


def collect_thp_disable(remote: RemoteTask) -> int:
    """PR_GET_THP_DISABLE: 0, 1, or 3 when advised memory may have huge pages still (Linux 6.18), which /proc hides."""
    return remote.syscall(uapi.SYS_prctl, us.PR_GET_THP_DISABLE, 0, 0, 0, 0)


def restore_thp_disable(remote: RemoteTask, value: int) -> None:
    """Before memory is filled."""
    with rebuilding(remote.pid, "PR_SET_THP_DISABLE"):
        if remote.syscall(uapi.SYS_prctl, us.PR_GET_THP_DISABLE, 0, 0, 0, 0) != value:
            remote.syscall(uapi.SYS_prctl, us.PR_SET_THP_DISABLE, value & 1, value & ~1, 0, 0)
