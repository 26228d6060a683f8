"""Several segments, one of them marked for removal, one attached by the child alone, one not attached at all."""

import ctypes

from target_api import PAGE, Skip, call, checkpoint, child, eventually, exit_code, libc, pattern, peek, poke, run

libc.shmat.restype = ctypes.c_long


def attached(segment):
    address = libc.shmat(segment, None, 0)
    assert address != -1
    return address


def main():
    segments = []
    try:
        for _ in range(4):
            segments.append(call("shmget", 0, 3 * PAGE, 0o1600))
        body(segments)
    except OSError as error:
        if not segments:
            raise Skip(f"no System V shared memory: {error}") from error
        raise
    finally:
        for segment in segments:
            ctypes.CDLL(None).shmctl(segment, 0, None)


def body(segments):
    removed, kept, childs, loose = segments
    one, two, three = attached(removed), attached(kept), attached(childs)
    four = attached(loose)
    for n, area in enumerate((one, two, three, four)):
        poke(area, pattern(n, 3 * PAGE))
    call("shmctl", removed, 0, 0)
    call("shmdt", four)

    def other():
        call("shmdt", one)
        eventually(lambda: peek(two, 1) == b"!")
        return peek(three, 3 * PAGE) == pattern(2, 3 * PAGE)

    pid = child(other)
    call("shmdt", three)
    if checkpoint(lambda n: poke(one + 2 * PAGE, b"%016d" % n)):
        poke(one, b"tampered")
    assert peek(one, 2 * PAGE) == pattern(0, 2 * PAGE)
    assert peek(two, 3 * PAGE) == pattern(1, 3 * PAGE)
    poke(two, b"!")
    assert exit_code(pid) == 1
    assert peek(attached(loose), 3 * PAGE) == pattern(3, 3 * PAGE)
    assert peek(attached(childs), 3 * PAGE) == pattern(2, 3 * PAGE)
    call("shmdt", one)
    try:
        call("shmctl", removed, 2, ctypes.create_string_buffer(112))
    except OSError:
        return
    raise AssertionError("the removed segment outlives its last user")


run(main)
