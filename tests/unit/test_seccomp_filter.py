"""Seccomp filters run by ckpt, and by the kernel in a process of their own, give the same."""

from __future__ import annotations

import ctypes
import os
import random

import pytest

from ckpt.kernel import seccomp_filter
from ckpt.kernel import uapi_state as us

SYS_ACCT = 163  # fails without any filter, too, but never with what these say
_LOADS = (0, 16, 20, 24, 32, 40, 56)


def _program(rng: random.Random) -> bytes:
    """Loads, arithmetic and jumps that end in an errno made of the accumulator; all other calls are allowed."""
    code = [(0x20, 0, 0, 0), (0x15, 1, 0, SYS_ACCT), (0x06, 0, 0, us.SECCOMP_RET_ALLOW)]
    for at in range(16):
        code += [(0x00, 0, 0, at * 3), (0x02, 0, 0, at)]
    for _ in range(rng.randrange(4, 20)):
        k = rng.choice([0, 1, 5, 31, 0xFF, 0xFFFFFFFF, rng.randrange(1 << 32)])
        kind = rng.randrange(6)
        if kind == 0:
            code.append((0x20, 0, 0, rng.choice(_LOADS)))
        elif kind == 1:
            code.append((rng.choice([0x00, 0x01]), 0, 0, k))
        elif kind == 2:
            op = rng.choice([0x00, 0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70, 0x80, 0xA0])
            code.append((0x04 | op, 0, 0, k % 32 if op in (0x60, 0x70) else k or 1))
        elif kind == 3:
            code += [(0x05 | rng.choice([0x10, 0x20, 0x30, 0x40]) | rng.choice([0, 8]), 1, 0, k), (0x04, 0, 0, 7)]
        elif kind == 4:
            code.append(rng.choice([(0x07, 0, 0, 0), (0x87, 0, 0, 0), (0x80, 0, 0, 0), (0x81, 0, 0, 0)]))
        else:
            code.append((rng.choice([0x60, 0x61, 0x02, 0x03]), 0, 0, rng.randrange(16)))
    code += [(0x04 | 0x50, 0, 0, 0x3FF), (0x04, 0, 0, 200), (0x04 | 0x40, 0, 0, us.SECCOMP_RET_ERRNO), (0x16, 0, 0, 0)]
    return b"".join(us.sock_filter.pack(*one) for one in code)


def _by_the_kernel(program: bytes, args: list[int]) -> int:
    """The errno that the filter gives; -1: there is no seccomp here."""
    buffer = ctypes.create_string_buffer(program, len(program))
    fprog = us.sock_fprog.pack(len(program) // us.sock_filter.size, ctypes.addressof(buffer))
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS
        found = -1
        if libc.prctl(22, 2, fprog, 0, 0) == 0:  # PR_SET_SECCOMP
            libc.syscall(SYS_ACCT, *map(ctypes.c_ulong, args))
            found = ctypes.get_errno()
        os.write(writer, found.to_bytes(4, "little", signed=True))
        os._exit(0)
    os.close(writer)
    answer = int.from_bytes(os.read(reader, 4), "little", signed=True)
    os.close(reader)
    os.waitpid(pid, 0)
    return answer


@pytest.mark.parametrize("seed", range(25))
def test_as_the_kernel_runs_it(seed: int) -> None:
    rng = random.Random(seed)
    program = _program(rng)
    args = [rng.choice([0, 1, rng.randrange(1 << 64)]) for _ in range(6)]
    wanted = _by_the_kernel(program, args)
    if wanted < 0:
        pytest.skip("no seccomp filters here")
    found = seccomp_filter.action(program, SYS_ACCT, args)
    assert found & us.SECCOMP_RET_ACTION_FULL == us.SECCOMP_RET_ERRNO
    assert found & 0xFFFF == wanted
    assert seccomp_filter.action(program, 1, args) == us.SECCOMP_RET_ALLOW


def test_what_no_filter_may_have_kills() -> None:
    assert seccomp_filter.action(us.sock_filter.pack(0xFF, 0, 0, 0), 1, []) == us.SECCOMP_RET_KILL_THREAD
    assert seccomp_filter.action(b"", 1, []) == us.SECCOMP_RET_KILL_THREAD
