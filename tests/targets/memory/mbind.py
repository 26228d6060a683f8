"""NUMA policies of parts of mappings, private, shared and of a file, in a task whose own is another."""

import ctypes
import os

from target_api import PAGE, Skip, call, checkpoint, child, exit_code, mmap, peek, poke, run, wait_for_go

MBIND, SET, GET = 237, 238, 239
PREFERRED, BIND, INTERLEAVE, LOCAL = 1, 2, 3, 4
STATIC = 1 << 15
ADDR = 2  # MPOL_F_ADDR


def mask(nodes):
    return (ctypes.byref(ctypes.c_ulong(nodes)), 64) if nodes else (0, 0)


def policy(address):
    mode, nodes = ctypes.c_int(-1), ctypes.c_ulong()
    call("syscall", GET, ctypes.byref(mode), ctypes.byref(nodes), 64, address, ADDR if address else 0)
    return mode.value, nodes.value


def main():
    private, shared, plain = mmap(16 * PAGE), mmap(16 * PAGE, 3, 0x21), mmap(16 * PAGE)
    fd = os.memfd_create("interleaved")
    os.ftruncate(fd, 8 * PAGE)
    of_file = mmap(8 * PAGE, 3, 1, fd)
    wanted = [
        (private, 4 * PAGE, BIND, 1),
        (private + 4 * PAGE, 4 * PAGE, BIND | STATIC, 1),
        (private + 12 * PAGE, 4 * PAGE, PREFERRED, 1),
        (shared, 8 * PAGE, INTERLEAVE, 1),
        (of_file, 8 * PAGE, LOCAL, 0),
    ]
    try:
        for address, size, mode, nodes in wanted:
            call("syscall", MBIND, address, size, mode, *mask(nodes), 0)
        call("syscall", SET, PREFERRED, *mask(1))
    except OSError as error:
        raise Skip(f"no NUMA policies: {error}") from error
    places = [0, *(address for address, *_ in wanted), private + 8 * PAGE, shared + 8 * PAGE, plain]
    for address in places[1:]:
        poke(address, b"here")
    before = [policy(address) for address in places]
    assert len(set(before)) >= 5, before

    def same():
        wait_for_go()
        assert [policy(address) for address in places] == before

    pid = child(same)
    if checkpoint():
        call("syscall", MBIND, private, 4 * PAGE, 0, 0, 0, 0)
    after = [policy(address) for address in places]
    assert after == before, (before, after)
    assert all(peek(address, 4) == b"here" for address in places[1:])
    assert exit_code(pid) == 0


run(main)
