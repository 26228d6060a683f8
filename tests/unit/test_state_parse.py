"""The pure parts of task state: /proc texts, interrupted calls, rseq sections, filters. No privileges."""

from __future__ import annotations

import pytest

from ckpt.kernel import taskinfo, uapi
from ckpt.kernel import uapi_state as us
from ckpt.state import ioports
from ckpt.state.registers import name_restarted_call
from ckpt.state.seccomp import notifies
from ckpt.state.signals import members
from ckpt.trace import sigframe, waits
from ckpt.trace.critical_section import aborted
from ckpt.trace.sigframe import ORIG_RAX, R10, RAX, RDI, RDX, RIP, RSI, pack, unpack

M64 = (1 << 64) - 1


def registers(orig_rax: int, rax: int, **others: int) -> bytes:
    names = {"rip": RIP, "rdi": RDI, "rsi": RSI, "rdx": RDX, "r10": R10}
    r = [index + 1000 for index in range(27)]
    r[ORIG_RAX], r[RAX], r[RIP] = orig_rax & M64, rax & M64, 0x5000
    for name, value in others.items():
        r[names[name]] = value
    return pack(r)


@pytest.mark.parametrize(
    ("nr", "rax", "others", "waits_for"),
    [
        (uapi.SYS_poll, -516, {}, RDX),
        (uapi.SYS_clock_nanosleep, -516, {"rsi": 0}, RDX),
        (uapi.SYS_clock_nanosleep, -516, {"rsi": 1}, None),  # TIMER_ABSTIME
        (uapi.SYS_nanosleep, -516, {}, RDI),
        (uapi.SYS_futex, -516, {"rsi": 128}, R10),
        (uapi.SYS_futex, -516, {"rsi": 9 | 128 | 256}, None),
        (uapi.SYS_restart_syscall, -516, {}, None),
        (uapi.SYS_epoll_wait, -514, {"r10": 10}, R10),
        (uapi.SYS_epoll_wait, -514, {"r10": 0xFFFFFFFF}, None),
        (uapi.SYS_rt_sigtimedwait, -514, {"rdx": 0}, None),
        (uapi.SYS_semop, -514, {}, None),
        (uapi.SYS_poll, -514, {}, RDX),
        (uapi.SYS_clock_nanosleep, -514, {"rsi": 0}, RDX),
        (uapi.SYS_clock_nanosleep, -514, {"rsi": 1}, None),
        (uapi.SYS_futex, -512, {}, None),
        (-1, -516, {}, None),
    ],
)
def test_what_measures_the_time_of_an_interrupted_call(nr, rax, others, waits_for):
    timeout = waits.timeout_of(unpack(registers(nr, rax, **others)))
    assert (timeout.register if timeout else None) == waits_for


def test_a_repeated_call_waits_for_what_was_left():
    r = unpack(registers(uapi.SYS_epoll_pwait, -514, r10=5000))
    assert waits.shortened(0, r, 1_000_001)[R10] == 2
    for_ever = unpack(registers(uapi.SYS_epoll_pwait, -514, r10=0xFFFFFFFF))
    assert waits.shortened(0, for_ever, 1_000_001) == for_ever


def test_restart_syscall_gets_its_name_from_the_code():
    gpr = registers(uapi.SYS_restart_syscall, -516)
    site = b"\xb8" + uapi.SYS_futex.to_bytes(4, "little") + b"\x0f\x05"
    assert unpack(name_restarted_call(gpr, site))[ORIG_RAX] == uapi.SYS_futex
    for other in (b"", site[:-1], b"\xb9" + site[1:], b"\xb8\x00\x00\x00\x00\x0f\x05"):
        assert name_restarted_call(gpr, other) == gpr


@pytest.mark.parametrize(("rip", "inside"), [(0xFFF, False), (0x1000, True), (0x100F, True), (0x1010, False)])
def test_a_critical_section_is_aborted_only_from_inside(rip, inside):
    section = us.rseq_cs.pack(0, 0, 0x1000, 0x10, 0x9000)
    after = unpack(aborted(registers(-1, 5, rip=rip), section))
    assert after[RIP] == (0x9000 if inside else rip)
    assert aborted(registers(-1, 5), b"") == registers(-1, 5)


def test_timers_of_proc():
    text = (
        "ID: 3\nsignal: 14/00000000deadbeef\nnotify: signal/tid.99\nClockID: -6\n"
        "ID: 0\nsignal: 0/0000000000000000\nnotify: none/pid.98\nClockID: 1\n"
    )
    first, second = taskinfo.parse_timers(text)
    assert (first.timer_id, first.notify, first.notify_tid, first.clock_id) == (0, us.SIGEV_NONE, 0, 1)
    assert (second.timer_id, second.signo, second.sigval) == (3, 14, 0xDEADBEEF)
    assert (second.notify, second.notify_tid, second.clock_id) == (us.SIGEV_THREAD_ID, 99, -6)
    assert taskinfo.parse_timers("") == []


def test_limits_of_proc():
    text = "Limit                     Soft Limit           Hard Limit           Units     \n" + "".join(
        f"{'Max ' + name:<25} {soft:<20} {hard:<20} {unit:<10}\n"
        for name, soft, hard, unit in (
            ("cpu time", "unlimited", "unlimited", "seconds"),
            ("nice priority", "0", "20", ""),
        )
    )
    assert taskinfo.parse_limits(text) == [(us.RLIM_INFINITY, us.RLIM_INFINITY), (0, 20)]


def test_ids_of_status():
    status = {
        "Uid": "1\t2\t3\t4",
        "Gid": "5\t6\t7\t8",
        "Groups": "9 10",
        "CapInh": "0000000000000001",
        "CapPrm": "000001ffffffffff",
        "CapEff": "0000000000000000",
        "CapBnd": "000001ffffffffff",
        "NoNewPrivs": "1",
    }
    found = taskinfo.ids(status)
    assert (found.uids, found.gids, found.groups) == ((1, 2, 3, 4), (5, 6, 7, 8), (9, 10))
    assert (found.cap_inh, found.cap_prm, found.cap_amb) == (1, 0x1FFFFFFFFFF, 0)
    assert found.no_new_privs
    assert taskinfo.ids({**status, "Groups": ""}).groups == ()


def test_speculation_of_status():
    assert taskinfo.speculation({}) == ()
    status = {
        "Speculation_Store_Bypass": "thread force mitigated",
        "SpeculationIndirectBranch": "conditional enabled",
    }
    assert taskinfo.speculation(status) == (9, 3)
    status = {
        "Speculation_Store_Bypass": "vulnerable",
        "SpeculationIndirectBranch": "always enabled",
    }
    assert taskinfo.speculation(status) == (0, 0)


def test_a_filter_with_a_supervisor_is_seen():
    allow = us.sock_filter.pack(us.BPF_RET_K, 0, 0, 0x7FFF0000)
    ask = us.sock_filter.pack(us.BPF_RET_K, 0, 0, us.SECCOMP_RET_USER_NOTIF)
    load = us.sock_filter.pack(0x20, 0, 0, us.SECCOMP_RET_USER_NOTIF)
    assert not notifies(load + allow)
    assert notifies(load + ask + allow)


def test_the_members_of_a_set():
    assert members(1 << 0 | 1 << 63) == [1, 64]


@pytest.mark.parametrize(
    ("layout", "size"),
    [
        (us.kernel_sigaction, 32),
        (us.stack_t, 24),
        (us.rseq_cs, 32),
        (us.itimerval, 32),
        (us.itimerspec, 32),
        (us.sigevent, 64),
        (us.cap_header, 8),
        (us.cap_data, 24),
        (us.sched_attr, 48),
        (us.rlimit64, 16),
        (us.sock_filter, 8),
        (us.sock_fprog, 16),
        (us.ptrace_rseq_configuration, 24),
        (us.SECCOMP_METADATA, 16),
    ],
)
def test_sizes_are_the_kernel_s(layout, size):
    assert layout.size == size


def test_the_frames_of_a_chain_are_those_of_its_calls() -> None:
    own = [(7919 * n) & 0xFFFF for n in range(27)]
    calls: list[tuple[int, ...]] = [(13, 2, 0, 0x7FFF0000, 8), (39,), (239, 1, 2, 3, 4, 5, (1 << 64) - 1)]
    base, restorer, mask = 0x7FFD_0000_0040, 0x401000, 0xFFFF_0000
    pointer, frames = sigframe.chain(base, restorer, own, calls, 0x7FFD_0000_8000, mask)
    assert pointer == base + 8 and len(frames) == 3 * sigframe.STRIDE
    for number, (nr, *args) in enumerate(calls):
        at, last = base + number * sigframe.STRIDE, number == len(calls) - 1
        registers = list(own)
        if not last:
            registers[sigframe.RSP] = at + sigframe.STRIDE + 8
        for register in sigframe.ARGUMENTS[len(args) :]:
            registers[register] = 0
        blocked = mask if last else (1 << 64) - 1
        alone = sigframe.call(at, restorer, registers, nr, args, fpstate_at=0x7FFD_0000_8000, sigmask=blocked)[1]
        assert frames[number * sigframe.STRIDE :][: sigframe.STRIDE] == alone[: sigframe.STRIDE]


def test_runs_of_allowed_io_ports() -> None:
    assert list(ioports.allowed(b"\xff" * 8192)) == []
    assert list(ioports.allowed(bytes(8192))) == [(0, 65536)]
    bitmap = bytearray(b"\xff" * 8192)
    bitmap[0x10] = 0b11111110
    bitmap[0x1FFE:] = b"\x7f\x00"
    assert list(ioports.allowed(bytes(bitmap))) == [(0x80, 1), (0xFFF7, 9)]
