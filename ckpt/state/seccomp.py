"""Seccomp: strict mode, or the stack of filters of a thread."""

from __future__ import annotations

import errno

from ckpt.errors import KernelError
from ckpt.kernel import ptrace_requests as ptrace
from ckpt.kernel import uapi
from ckpt.kernel import uapi_state as us
from ckpt.records.seams import RemoteTask
from ckpt.records.state import SeccompState
from ckpt.records.support import Support
from ckpt.state.context import CollectContext
from ckpt.state.rebuild import rebuilding

SUPPORT = Support(
    "identity",
    "seccomp",
    "strict mode, filters",
    lost="the task itself, if ckpt is killed in the instant in which it makes a call in it for which a filter kills",
)

_SCRATCH_FILTER = 64  # offset of the program behind its sock_fprog


def collect_seccomp(pid: int, tid: int, status: dict[str, str], context: CollectContext) -> SeccompState | None:
    """Read from outside (CAP_SYS_ADMIN); None for a thread without seccomp. Listeners are refused."""
    mode = int(status.get("Seccomp", "0"))
    if mode == 0:
        return None
    if mode == us.SECCOMP_MODE_STRICT:
        return SeccompState(mode, (), ())
    filters: list[bytes] = []
    flags: list[int] = []
    try:
        for index in range(int(status.get("Seccomp_filters", "0"))):
            filters.append(ptrace.seccomp_get_filter(tid, index))
            flags.append(ptrace.seccomp_get_metadata(tid, index))
    except KernelError as error:
        if error.errno == errno.ESRCH:  # it does not stand, and has no tracer
            context.refuse(
                pid,
                f"thread {tid}",
                "waits in vfork, and its seccomp filters cannot be read",
                "dump again when its child has executed a program or ended",
            )
            return None
        context.refuse(
            pid,
            f"thread {tid}",
            f"has seccomp filters that cannot be read: {error.message}",
            "run ckpt as root, outside any seccomp sandbox of its own",
        )
    if any(notifies(program) for program in filters):
        context.refuse(
            pid,
            f"thread {tid}",
            "has a seccomp filter that asks another process (SECCOMP_RET_USER_NOTIF)",
            "the connection to its supervisor cannot be restored: run the task without one",
        )
    return SeccompState(mode, tuple(filters), tuple(flags))


def notifies(program: bytes) -> bool:
    """Whether a filter can return SECCOMP_RET_USER_NOTIF."""
    return any(
        code == us.BPF_RET_K and k & us.SECCOMP_RET_ACTION_FULL == us.SECCOMP_RET_USER_NOTIF
        for code, _jt, _jf, k in us.sock_filter.iter_unpack(program)
    )


def restore_seccomp(remote: RemoteTask, record: SeccompState | None) -> None:
    """Oldest filter first. The caller must have set PTRACE_O_SUSPEND_SECCOMP, or the next remote call may fail."""
    if record is None:
        return
    with rebuilding(remote.pid, "seccomp"):
        if record.mode == us.SECCOMP_MODE_STRICT:
            remote.syscall(uapi.SYS_prctl, us.PR_SET_SECCOMP, us.SECCOMP_MODE_STRICT, 0, 0, 0)
            return
        for program, flags in zip(record.filters, record.flags, strict=True):
            _install(remote, program, flags)


def _install(remote: RemoteTask, program: bytes, flags: int) -> None:
    # SPEC_ALLOW: the filter must not change the speculation controls, which are restored by themselves.
    flags |= us.SECCOMP_FILTER_FLAG_SPEC_ALLOW
    size = -(-len(program) // uapi.PAGE_SIZE) * uapi.PAGE_SIZE
    large = _SCRATCH_FILTER + len(program) > remote.scratch_size
    if large:
        prot, kind = uapi.PROT_READ | uapi.PROT_WRITE, uapi.MAP_PRIVATE | uapi.MAP_ANONYMOUS
        address = remote.syscall(uapi.SYS_mmap, 0, size, prot, kind, -1, 0)
        remote.write(address, program)
    else:
        address = remote.put(program, _SCRATCH_FILTER)
    fprog = remote.put(us.sock_fprog.pack(len(program) // us.sock_filter.size, address))
    remote.syscall(uapi.SYS_seccomp, us.SECCOMP_SET_MODE_FILTER, flags, fprog)
    if large:
        remote.syscall(uapi.SYS_munmap, address, size)
