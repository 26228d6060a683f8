"""Stand-ins for the freezer and the engine: a stopped child is collected, killed, and its files opened here."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ckpt.image.codec import decode_record, encode_record
from ckpt.records.files import FdTable
from ckpt.state import sockets
from ckpt.state.context import CollectContext, DumpOptions, RestoreContext
from ckpt.state.files.collect import collect_files
from ckpt.state.files.restore import open_files


@dataclass
class StoppedTask:
    """What collecting needs of a frozen task, for one that SIGSTOP holds."""

    pid: int

    @property
    def tids(self) -> list[int]:
        return [self.pid]

    def remote(self, tid: int | None = None) -> Any:
        raise AssertionError("sockets are collected from outside")


@dataclass
class MemoryImage:
    """An ImageView of records that never were on disk."""

    all: list[Any] = field(default_factory=list)

    def records(self, name: str) -> list[Any]:
        return [record for record in self.all if name == record.RECORD_NAME]


@contextlib.contextmanager
def target(source: str, *args: str) -> Iterator[subprocess.Popen[bytes]]:
    """A python child that runs `source` and then stops itself (SIGSTOP); killed at the end."""
    code = source + "\nimport os, signal\nos.kill(os.getpid(), signal.SIGSTOP)\n"
    null = subprocess.DEVNULL
    child = subprocess.Popen([sys.executable, "-c", code, *args], stdin=null, stdout=null, stderr=null)
    try:
        deadline = time.monotonic() + 60
        while True:
            done, status = os.waitpid(child.pid, os.WUNTRACED | os.WNOHANG)
            if done:
                assert os.WIFSTOPPED(status), f"the target ended with status {status}"
                break
            assert time.monotonic() < deadline, "the target did not stop"
            time.sleep(0.005)
        yield child
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()


def collect(*pids: int, **options: Any) -> tuple[CollectContext, list[FdTable]]:
    """Collect the files of stopped children; refusals stand in the context."""
    context = CollectContext([StoppedTask(pid) for pid in pids], DumpOptions(**options))
    tables = collect_files(context)
    sockets.check(context)
    return context, tables


@dataclass
class Restored:
    """The files of one table, open in the test process."""

    context: RestoreContext
    table: FdTable

    def __getitem__(self, fd: int) -> int:
        """ckpt's descriptor for what was `fd` in the target."""
        file_id = next(d.file_id for d in self.table.fds if d.fd == fd)
        return self.context.opened[file_id]


@contextlib.contextmanager
def restored(context: CollectContext, tables: list[FdTable], **options: Any) -> Iterator[Restored]:
    """Open every file of a collection in this process."""
    # Through the image's codec, so that every payload is one that an image can hold.
    image = MemoryImage([decode_record(encode_record(r), "test") for r in [*context.records, *tables]])
    context.stack.close()
    made = RestoreContext(image, frozenset(), options=options)  # type: ignore[arg-type]
    with made.stack:
        open_files(made)
        yield Restored(made, tables[0])


def socket_file(path: Path) -> tuple[int, int, int]:
    """Mode, uid and gid of a socket file."""
    stat = path.stat()
    return stat.st_mode & 0o7777, stat.st_uid, stat.st_gid
