"""BPF maps of every plain kind with elements, one frozen, one open twice, one read-only."""

import ctypes
import struct

from target_api import Skip, checkpoint, libc, run

CREATE, LOOKUP, UPDATE, DELETE, NEXT, BY_ID, INFO, FREEZE = 0, 1, 2, 3, 4, 14, 15, 22
HASH, ARRAY, PERCPU_HASH, PERCPU_ARRAY, LRU, TRIE = 1, 2, 5, 6, 9, 11
NO_PREALLOC, RDONLY = 1, 8


def bpf(command, attr):
    buffer = ctypes.create_string_buffer(attr, len(attr))
    result = libc.syscall(321, command, buffer, len(attr))
    if result < 0:
        raise OSError(ctypes.get_errno(), f"bpf({command})")
    return result


def pointers(*values):
    buffers = [ctypes.create_string_buffer(value, len(value)) for value in values]
    return buffers, [ctypes.addressof(buffer) for buffer in buffers]


def create(kind, key, value, entries, flags=0, name=b"ckpt"):
    return bpf(CREATE, struct.pack("5I8x16s", kind, key, value, entries, flags, name))


def update(fd, key, value):
    held, (k, v) = pointers(key, value)
    bpf(UPDATE, struct.pack("I4xQQQ", fd, k, v, 0))
    del held


def info(fd):
    held, (at,) = pointers(bytes(40))
    bpf(INFO, struct.pack("IIQ", fd, 40, at))
    return struct.unpack("6I16s", held[0].raw)


def content(fd):
    """Everything in a map, as a dict."""
    _, _, key, value, *_ = info(fd)
    found, at = {}, 0
    held, (k, following, v) = pointers(bytes(key), bytes(key), bytes(max(value, 8) * 256))
    while True:
        try:
            bpf(NEXT, struct.pack("I4xQQQ", fd, at, following, 0))
        except OSError:
            return found
        held[0].raw, at = held[1].raw, k
        bpf(LOOKUP, struct.pack("I4xQQQ", fd, k, v, 0))
        found[held[0].raw] = held[2].raw[: value if info(fd)[0] not in (PERCPU_HASH, PERCPU_ARRAY) else 16]


def main():
    try:
        maps = [create(kind, 4, 8, 64) for kind in (HASH, ARRAY, PERCPU_HASH, PERCPU_ARRAY, LRU)]
        maps.append(create(TRIE, 8, 8, 64, NO_PREALLOC))
        maps.append(create(HASH, 16, 100, 500, NO_PREALLOC, b"sparse"))
    except OSError as error:
        raise Skip(f"no BPF maps: {error}") from error
    for fd in maps:
        kind, _, key, value, *_ = info(fd)
        room = value * 256 if kind in (PERCPU_HASH, PERCPU_ARRAY) else value
        for n in range(0, 60, 7):
            update(fd, struct.pack("I", 32 if kind == TRIE else n) + bytes([n]) * (key - 4), bytes([n + 1]) * room)
    frozen, empty = create(ARRAY, 4, 4096, 3), create(HASH, 4, 4, 10)
    update(frozen, bytes(4), b"frozen" * 682 + bytes(4))
    bpf(FREEZE, struct.pack("I28x", frozen))
    twice = bpf(BY_ID, struct.pack("III", info(maps[0])[1], 0, 0))
    reading = bpf(BY_ID, struct.pack("III", info(maps[0])[1], 0, RDONLY))
    everything = [*maps, frozen, empty, twice, reading]

    def view():
        return [(info(fd)[0], info(fd)[2:], content(fd)) for fd in everything]

    before = view()
    assert all(len(one[2]) >= 9 for one in before[:7]), [len(one[2]) for one in before]
    if checkpoint():
        update(maps[0], bytes(4), bytes(8))
    assert view() == before
    assert info(twice)[1] == info(reading)[1] == info(maps[0])[1]
    update(twice, struct.pack("I", 1000), b"new here")
    assert content(reading)[struct.pack("I", 1000)] == b"new here"
    for fd in (frozen, reading):
        try:
            update(fd, bytes(4), bytes(info(fd)[3]))
        except OSError:
            continue
        raise AssertionError(f"{fd} can be written to")


run(main)
