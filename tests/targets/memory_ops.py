"""A target that maps, writes, moves, protects and advises memory as it is told.

Each line is Python, run with the names below; "ok" or the error answers it. Memory is reached through ctypes
alone, so that nothing but what a line says happens to the areas.
"""

import ctypes
import os
import sys

libc = ctypes.CDLL(None, use_errno=True)
PAGE = 4096
RW, RO, NONE = 3, 1, 0
PRIVATE, FIXED, ANON, NOREPLACE = 2, 0x10, 0x20, 0x100000
DONTNEED, FREE, HUGEPAGE, NOHUGEPAGE, PAGEOUT, COLLAPSE = 4, 8, 14, 15, 21, 25
GUARD_INSTALL, GUARD_REMOVE = 102, 103


def call(name, *args, may_fail=False):
    function = getattr(libc, name)
    function.restype = ctypes.c_long
    result = function(*[ctypes.c_long(a) if isinstance(a, int) else a for a in args])
    if result == -1 and not may_fail:
        raise OSError(ctypes.get_errno(), name)
    return result


def mmap(address, pages, prot=RW, flags=PRIVATE | ANON, fd=-1, offset=0):
    return call("mmap", address, pages * PAGE, prot, flags, fd, offset)


def munmap(address, pages):
    call("munmap", address, pages * PAGE)


def advise(address, pages, advice, may_fail=False):
    return call("madvise", address, pages * PAGE, advice, may_fail=may_fail)


def protect(address, pages, prot):
    call("mprotect", address, pages * PAGE, prot)


def move(address, pages, to, to_pages=None):
    """mremap with MREMAP_MAYMOVE | MREMAP_FIXED."""
    return call("mremap", address, pages * PAGE, (to_pages or pages) * PAGE, 3, to)


def put(address, value, pages=1):
    for page in range(pages):
        ctypes.memset(address + page * PAGE + 8, value, 16)


def get(address):
    return ctypes.string_at(address, 1)[0]


def aligned(pages, to=512 * PAGE):
    """Address space of that many pages with that alignment, mapped PROT_NONE."""
    room = mmap(0, pages + to // PAGE, NONE)
    at = -(-room // to) * to
    munmap(room, pages + to // PAGE)
    return mmap(at, pages, NONE, PRIVATE | ANON | FIXED)


def fork_and_write(address, value):
    """The child writes and ends: the parent's pages were shared with it for a moment."""
    child = os.fork()
    if child == 0:
        put(address, 0xEE)
        os._exit(0)
    put(address, value)
    os.waitpid(child, 0)


def read_into(address, size):
    """read(2): the kernel writes."""
    fd = os.open("/dev/urandom", os.O_RDONLY)
    call("read", fd, address, size)
    os.close(fd)


def file(pages):
    """A descriptor of a file that has no name."""
    import tempfile

    with tempfile.TemporaryFile() as made:
        made.write(bytes(range(256)) * (pages * PAGE // 256))
        made.flush()
        return os.dup(made.fileno())


# The stage: a part of the address space of its own, with holes around whatever is mapped in it.
STAGE = aligned(16 * 512)
munmap(STAGE, 16 * 512)
A = STAGE + 512 * PAGE  # the area of the tests
B = STAGE + 4 * 512 * PAGE
C = STAGE + 8 * 512 * PAGE


def area(address=A, pages=16, filled=16):
    mmap(address, pages, RW, PRIVATE | ANON | FIXED)
    advise(address, pages, NOHUGEPAGE)
    for page in range(filled):
        put(address + page * PAGE, page + 1)


def ops(count, seed):
    """`count` random steps on three areas of up to 1024 pages."""
    import random

    rng = random.Random(seed)
    for _ in range(count):
        base = rng.choice([A, B, C])
        at, n = base + rng.randrange(1000) * PAGE, rng.choice([1, 1, 2, 5, 24])
        step = rng.randrange(14)
        try:
            if step < 5:
                call("mprotect", at, n * PAGE, RW)
                put(at, rng.randrange(256), n)
            elif step == 5:
                mmap(at, n, RW, PRIVATE | ANON | FIXED)
            elif step == 6:
                munmap(at, n)
            elif step == 7:
                advise(at, n, DONTNEED)
            elif step == 8:
                protect(at, n, rng.choice([NONE, RO, RW]))
            elif step == 9:
                move(at, n, rng.choice([A, B, C]) + rng.randrange(1000) * PAGE)
            elif step == 10:
                call("mprotect", at, PAGE, RO)
                get(at)
            elif step == 11:
                protect(at, 1, RW)
                fork_and_write(at, rng.randrange(256))
            elif step == 12:
                move(base, 512, rng.choice([A, B, C]), 512)
            else:
                mmap(base, 1024, RW, PRIVATE | ANON | FIXED | (0 if rng.random() < 0.3 else NOREPLACE))
        except OSError:
            continue


if __name__ == "__main__":
    print(A, B, C, flush=True)
    for line in sys.stdin:
        try:
            exec(line)
            print("ok", flush=True)
        except OSError as error:
            print(f"failed: {error}", flush=True)
