"""Open files of a stopped program, collected and rebuilt in another process, without freezer or engine.

`Target` is a program stopped by SIGSTOP; `Skeleton` a forked process that runs system calls on demand through
shared memory, since every descriptor of it is about to be closed; `restored` puts one's files into the other.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ckpt.errors import KernelError
from ckpt.image.codec import decode_record, encode_record
from ckpt.kernel.libc import kernel_error, syscall
from ckpt.records.files import FdTable, FileRecord
from ckpt.records.seams import RemoteTask
from ckpt.state.context import CollectContext, RestoreContext
from ckpt.state.files import collect, restore


@dataclass
class StoppedTask:
    """A FrozenTaskLike that SIGSTOP froze."""

    pid: int

    @property
    def tids(self) -> Sequence[int]:
        return [self.pid]

    def remote(self, tid: int | None = None) -> RemoteTask:
        raise NotImplementedError


class Target:
    """A Python program that stops itself with SIGSTOP; its children's pids, if any, are `others`."""

    def __init__(self, code: str, *arguments: str, children: int = 0) -> None:
        text = "import os, sys, signal\n" + code + "\nos.kill(os.getpid(), signal.SIGSTOP)\n"
        null = subprocess.DEVNULL
        self.process = subprocess.Popen(
            [sys.executable, "-c", text, *arguments],
            stdin=null,
            stdout=null,
            stderr=null,
            start_new_session=True,
        )
        self.pid = self.process.pid
        _, status = os.waitpid(self.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status), f"the target ended: {status:#x}"

    def close(self) -> None:
        if self.process.returncode is not None:
            return  # its numbers may be somebody else's by now
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.process.returncode = 0
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)


@dataclass
class Image:
    """An ImageView of nothing but records."""

    held: list[Any]
    shared: dict[str, Any] = field(default_factory=dict)

    def records(self, name: str) -> list[Any]:
        return [record for record in self.held if name == record.RECORD_NAME]

    def read(self, key: str) -> Iterator[Any]:
        return iter(())  # nothing is mapped


def collected(pids: Sequence[int], **options: Any) -> tuple[CollectContext, list[FdTable]]:
    """The context and the tables of stopped tasks; call `context.stack.close()` at the end."""
    context = CollectContext([StoppedTask(pid) for pid in pids])
    for name, value in options.items():
        setattr(context.options, name, value) if hasattr(context.options, name) else context.shared.__setitem__(
            name, value
        )
    tables = collect.collect_files(context)
    return context, tables


_BUFFER = 4096
_STATE, _CALL, _SCRATCH = 0, 8, 128


class Skeleton:
    """A RemoteTask in a forked process."""

    def __init__(self) -> None:
        self._shared = mmap.mmap(-1, _BUFFER)
        self._address = ctypes.addressof(ctypes.c_char.from_buffer(self._shared))
        self.pid = self.tid = os.fork()
        if not self.pid:
            self._serve()
        self.scratch = self._address + _SCRATCH
        self.scratch_size = 2048

    def _serve(self) -> None:
        while True:
            while self._shared[_STATE] != 1:
                time.sleep(0.0002)
            nr, *arguments = struct.unpack_from("<7Q", self._shared, _CALL)
            try:
                result = syscall("remote", nr, *arguments)
            except KernelError as error:
                result = -error.errno
            struct.pack_into("<q", self._shared, _CALL, result)
            self._shared[_STATE] = 2

    def syscall(self, nr: int, *args: int) -> int:
        values = [nr, *(a & (1 << 64) - 1 for a in args)]
        struct.pack_into("<7Q", self._shared, _CALL, *values, *[0] * (7 - len(values)))
        self._shared[_STATE] = 1
        while self._shared[_STATE] != 2:
            time.sleep(0.0001)
        result = int(struct.unpack_from("<q", self._shared, _CALL)[0])
        if result < 0:
            raise kernel_error(f"remote syscall {nr}", -result)
        return result

    def put(self, data: bytes, offset: int = 0) -> int:
        self.write(self.scratch + offset, data)
        return self.scratch + offset

    def read(self, address: int, size: int) -> bytes:
        start = address - self._address
        return bytes(self._shared[start : start + size])

    def write(self, address: int, data: bytes) -> None:
        start = address - self._address
        self._shared[start : start + len(data)] = data

    def close(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


@dataclass
class Restored:
    """The rebuilt process and what was collected from it again."""

    skeleton: Skeleton
    table: FdTable
    files: dict[int, FileRecord]  # by descriptor
    context: CollectContext
    rebuilt: RestoreContext

    @property
    def pid(self) -> int:
        return self.skeleton.pid

    def steal(self, fd: int) -> int:
        from ckpt.kernel.descriptors import steal_descriptor

        return steal_descriptor(self.pid, fd)


def files_of(context: CollectContext, table: FdTable) -> dict[int, FileRecord]:
    """The FileRecord behind each descriptor of a table."""
    by_id = {r.file_id: r for r in context.records if isinstance(r, FileRecord)}
    return {d.fd: by_id[d.file_id] for d in table.fds}


@contextlib.contextmanager
def restored(
    records: list[Any],
    tables: list[FdTable],
    *,
    options: dict[str, Any] | None = None,
    shared: dict[str, Any] | None = None,
) -> Iterator[Restored]:
    """The first table rebuilt in a Skeleton."""
    # Through the image's codec, so that every payload is one that an image can hold.
    image: Any = Image([decode_record(encode_record(record), "test") for record in [*records, *tables]])
    context = RestoreContext(image, frozenset(), shared=shared or {}, options=options or {})
    with context.stack:
        channel = restore.make_channel(context)
        skeleton = Skeleton()
        try:
            table = tables[0]
            restore.open_files(context)
            # Hooks of the image name the task of old; here another process stands for it.
            context.installed_hooks[:] = [(skeleton.pid, hook) for _, hook in context.installed_hooks]
            restore.install_table(context, skeleton, table, channel)
            restore.finish_files(context)
            restore.close_files(context)
            again = CollectContext([StoppedTask(skeleton.pid)])
            with again.stack:
                (new_table,) = collect.collect_files(again)
                assert not again.refusals, again.refusals
                yield Restored(skeleton, new_table, files_of(again, new_table), again, context)
        finally:
            skeleton.close()


@contextlib.contextmanager
def rebuilt(code: str, *arguments: str, keep_running: bool = False) -> Iterator[tuple[dict[int, FileRecord], Restored]]:
    """A program's files (by descriptor) and the process that got them; the program is gone by then."""
    target = Target(code, *arguments)
    try:
        context, tables = collected([target.pid])
        with context.stack:
            assert not context.refusals, context.refusals
        if not keep_running:
            target.close()
        with restored(context.records, tables) as new:
            yield files_of(context, tables[0]), new
    finally:
        target.close()


def refusals(code: str, *arguments: str) -> list[Any]:
    """What a dump of the program would refuse."""
    target = Target(code, *arguments)
    try:
        context, _ = collected([target.pid])
        with context.stack:
            return context.refusals
    finally:
        target.close()
