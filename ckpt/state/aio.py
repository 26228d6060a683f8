"""Contexts of Linux AIO (io_setup): the ring with the events that nobody has fetched yet.

A context's id is the address of its ring, so the ring is made anew and moved to the old address. The kernel's own
place in the ring is brought to where it was by reads of /dev/null that complete at once; then the events are put over
theirs. Requests that are under way complete while the task stands still: they are waited for before anything of the
tree is looked at.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ckpt.errors import HostMismatch, KernelError
from ckpt.kernel import uapi
from ckpt.kernel import uapi_aio as a
from ckpt.kernel.aio_memory import Contexts
from ckpt.kernel.memory import Memory
from ckpt.kernel.writers import Writers
from ckpt.records.mm import AioRecord, Vma
from ckpt.records.support import Support
from ckpt.state.context import CollectContext
from ckpt.state.mm_map import Mapper
from ckpt.state.rings import WRITERS

if TYPE_CHECKING:
    from ckpt.state.mm import Mm

SUPPORT = Support(
    "ipc",
    "Linux AIO",
    "contexts with their ids and events; requests under way are waited for",
    lost="without CAP_BPF, requests under way at the dump",
)

RING = "/[aio]"
_ANONYMOUS = (1 << 64) - 1
_PATIENCE, _PAUSE = 2.0, 0.001  # seconds, of the freeze


def settle(mms: Sequence[Mm], context: CollectContext) -> None:
    """Wait for the requests under way: what they read or write, and what they tell, is to be in the image."""
    writers: Writers | None = context.shared.get(WRITERS)
    mms = [mm for mm in mms if any(line.path.startswith(RING) for line in mm.lines)]
    if not mms or writers is None:
        return
    try:
        contexts = {mm.pid: Contexts(writers.memory, mm.pid, mm.task.tids[-1]) for mm in mms}
        end = time.monotonic() + _PATIENCE
        while any(one.under_way() for one in contexts.values()) and time.monotonic() < end:
            time.sleep(_PAUSE)
        for pid, one in contexts.items():
            for ring, count in one.under_way().items():
                context.refuse(
                    pid,
                    f"vma {ring:x}",
                    f"is a context of Linux AIO with {count} request{'s' * (count > 1)} under way",
                    "dump again when they have completed, or let the task cancel them (io_cancel)",
                )
    except KernelError:
        return  # nobody can tell


def collect_ring(context: CollectContext, pid: int, start: int, size: int) -> None:
    """Add the record of the ring that task `pid` has at `start`."""
    with Memory(pid) as memory:
        _id, nr, head, tail, magic, _compat, _incompat, header = a.AIO_RING.unpack(memory.read(start, a.AIO_RING.size))
        if magic != a.AIO_RING_MAGIC or header != a.AIO_RING.size or not 0 < nr <= size // a.IO_EVENT_SIZE:
            context.refuse(pid, f"vma {start:x}-{start + size:x}", "is an AIO ring that is not as the kernel made it")
            return
        head, tail = head % nr, tail % nr
        events = b"".join(
            memory.read(start + header + at * a.IO_EVENT_SIZE, a.IO_EVENT_SIZE) for at in _between(head, tail, nr)
        )
    context.records.append(AioRecord(pid, start, nr, head, tail, events))


def _between(head: int, tail: int, nr: int) -> list[int]:
    return [at % nr for at in range(head, head + (tail - head) % nr)]


def make_ring(mapper: Mapper, vma: Vma, record: AioRecord) -> None:
    """A context whose ring stands at the mapping's place, with the record's events in it."""
    task, size = mapper.task, vma.end - vma.start
    flags = uapi.MAP_PRIVATE | uapi.MAP_ANONYMOUS | uapi.MAP_FIXED_NOREPLACE
    # Held free, so that the ring does not come to lie across its own place.
    mapper.call(vma, "mmap", uapi.SYS_mmap, vma.start, size, 0, flags, _ANONYMOUS, 0)
    cell = task.put(bytes(8))
    mapper.call(vma, "io_setup", a.SYS_io_setup, max((record.nr - 2) // 2, 1), cell)
    came = int.from_bytes(task.read(cell, 8), "little")
    if a.AIO_RING.unpack(task.read(came, a.AIO_RING.size))[1] != record.nr:
        raise HostMismatch(
            f"task {task.pid}: an AIO context of {record.nr} events cannot be made here",
            hint="restore on a host with as many CPUs, which the size of a ring follows",
        )
    move = uapi.MREMAP_MAYMOVE | uapi.MREMAP_FIXED
    mapper.call(vma, "mremap", uapi.SYS_mremap, came, size, size, move, vma.start)
    with open("/dev/null", "rb") as null:
        number = mapper.give_as("aio", null.fileno())
    done = 0
    while done < record.head:  # these are fetched at once, for the ring to have room
        done += _complete(mapper, vma, number, min(record.head - done, max(record.nr // 4, 1)))
        task.write(vma.start + a.AIO_RING_HEAD, done.to_bytes(4, "little"))
    waiting = _between(record.head, record.tail, record.nr)
    done = 0
    while done < len(waiting):
        done += _complete(mapper, vma, number, len(waiting) - done)
    for index, at in enumerate(waiting):
        event = record.events[index * a.IO_EVENT_SIZE : (index + 1) * a.IO_EVENT_SIZE]
        task.write(vma.start + a.AIO_RING.size + at * a.IO_EVENT_SIZE, event)
    mapper.close_all()


def _complete(mapper: Mapper, vma: Vma, fd: int, count: int) -> int:
    """Up to `count` requests that complete in the submission itself; how many were taken."""
    count = min(count, 1024)
    iocb = struct.pack("<QIiHhIQQqQII", 0, 0, 0, a.IOCB_CMD_PREAD, 0, fd, 0, 0, 0, 0, 0, 0)
    one = mapper.task.put(iocb)
    pointers = mapper.task.put(struct.pack("<Q", one) * count, 64)
    return mapper.call(vma, "io_submit", a.SYS_io_submit, vma.start, count, pointers)
