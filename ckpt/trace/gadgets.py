"""Code that a task already has and that remote syscalls borrow: `syscall; ret`, and a jump into rt_sigreturn."""

from __future__ import annotations

from dataclasses import dataclass

from ckpt.errors import KernelError, RemoteCallError
from ckpt.kernel import procfs
from ckpt.kernel.memory import Memory

SYSCALL_RET = b"\x0f\x05\xc3"
RESTORERS = (
    b"\x48\xc7\xc0\x0f\x00\x00\x00\x0f\x05",  # mov $15,%rax; syscall (glibc, musl, Go)
    b"\xb8\x0f\x00\x00\x00\x0f\x05",  # mov $15,%eax; syscall
)
_CHUNK = 1 << 20
_cache: dict[tuple[int, int, int, int], tuple[int | None, int | None]] = {}


@dataclass(frozen=True, slots=True)
class Gadgets:
    syscall_ret: int
    restorer: int


def find(pid: int, maps: list[procfs.MapsLine] | None = None) -> Gadgets:
    """The addresses in a task. Looked for once a file: the first call is best made before the freeze."""
    lines = [m for m in (maps or procfs.maps(pid)) if "x" in m.perms and "r" in m.perms]
    lines = [m for m in lines if not m.path.startswith(("[vvar", "[vsyscall"))]
    lines.sort(key=lambda m: ("libc" not in m.path, not m.path.startswith("/"), m.start))
    call = back = None
    with Memory(pid) as memory:
        for line in lines:
            key = (line.dev, line.ino, line.offset, line.end - line.start)
            known = _cache.get(key) if line.ino else None
            if known is not None and not _still_there(memory, line, known):
                known = None
            if known is None:
                known = _search(memory, line)
                if line.ino:
                    _cache[key] = known
            if call is None and known[0] is not None:
                call = line.start + known[0]
            if back is None and known[1] is not None:
                back = line.start + known[1]
            if call is not None and back is not None:
                return Gadgets(call, back)
    raise RemoteCallError(
        f"task {pid} has no code that a remote syscall could borrow (syscall; ret and rt_sigreturn)",
        hint="such a task can be pre-dumped with --tracker content-hash, but not dumped",
    )


def _still_there(memory: Memory, line: procfs.MapsLine, known: tuple[int | None, int | None]) -> bool:
    try:
        if known[0] is not None and memory.read(line.start + known[0], 3) != SYSCALL_RET:
            return False
        return known[1] is None or memory.read(line.start + known[1], 7) in {r[:7] for r in RESTORERS}
    except KernelError:
        return False


def _search(memory: Memory, line: procfs.MapsLine) -> tuple[int | None, int | None]:
    call = back = None
    address, overlap = line.start, b""
    while address < line.end and (call is None or back is None):
        size = min(_CHUNK, line.end - address)
        try:
            data = overlap + memory.read(address, size)
        except KernelError:
            break  # a file mapping beyond the end of its file
        base = address - len(overlap) - line.start
        if call is None and (at := data.find(SYSCALL_RET)) >= 0:
            call = base + at
        if back is None:
            hits = [at for at in (data.find(pattern) for pattern in RESTORERS) if at >= 0]
            if hits:
                back = base + min(hits)
        overlap = data[-16:]
        address += size
    return call, back
