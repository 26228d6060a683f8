"""Descriptors that are no files: timerfd, signalfd, memfd, epoll, inotify, pidfd."""

from __future__ import annotations

import os
import select
import socket
import struct
import time
from dataclasses import replace
from pathlib import Path

import pytest
from files_roundtrip import Restored, Target, collected, files_of, rebuilt, refusals, restored

from ckpt.errors import RestoreError
from ckpt.records.files import FileRecord
from ckpt.state.files import timerfd, watched
from ckpt.state.files.registry import registry

pytestmark = pytest.mark.root

_LIBC = "import ctypes, struct; c = ctypes.CDLL(None, use_errno=True)\n"


def same(before: dict[int, FileRecord], new: Restored, *fds: int) -> None:
    for fd in fds:
        a, b = before[fd], new.files[fd]
        assert (b.kind, b.flags, b.pos, b.payload) == (a.kind, a.flags, a.pos, a.payload), fd


def test_timerfd():
    code = (
        _LIBC
        + """
import time
def timer(number, clock, flags, interval, value):
    fd = c.timerfd_create(clock, 0o4000)
    assert not c.timerfd_settime(fd, flags, struct.pack("<4q", interval, 0, value, 1), None)
    os.dup2(fd, number)
timer(50, 1, 0, 5, 1000)
timer(51, 1, 0, 0, 0)
timer(52, 0, 1, 0, int(time.time()) + 5000)
timer(53, 1, 0, 100000, 0)
import select
while len(select.select([51, 53], [], [])[0]) < 2: pass
os.dup2(c.timerfd_create(7, 0), 54)
"""
    )
    with rebuilt(code) as (before, new):
        for fd in (50, 51, 52, 53, 54):
            a, b = before[fd].payload, new.files[fd].payload
            assert (a.clock_id, a.ticks, a.interval_ns) == (b.clock_id, b.ticks, b.interval_ns)
            assert bool(a.value_ns) == bool(b.value_ns)
            assert abs(a.value_ns - b.value_ns) < 60 * 10**9
            assert before[fd].flags == new.files[fd].flags
        assert abs(before[52].payload.deadline_ns - new.files[52].payload.deadline_ns) < 10**9
        fd = new.steal(53)
        assert os.read(fd, 8) == (1).to_bytes(8, "little")
        os.close(fd)


def test_an_absolute_time_does_not_move_while_it_is_collected(monkeypatch):
    """ckpt may lose the processor between its look at the timer and that at the clock."""
    code = (
        _LIBC
        + """
fd = c.timerfd_create(0, 0)
assert not c.timerfd_settime(fd, 1, struct.pack("<4q", 0, 0, int(sys.argv[1]), 0), None)
os.dup2(fd, 50)
"""
    )
    slow, pair = [1.5], timerfd._pair

    def late(text):
        found = pair(text)
        while slow:
            time.sleep(slow.pop())
        return found

    monkeypatch.setattr(timerfd, "_pair", late)
    wanted = int(time.time()) + 5000
    target = Target(code, str(wanted))
    try:
        context, tables = collected([target.pid])
        with context.stack:
            deadline = files_of(context, tables[0])[50].payload.deadline_ns
    finally:
        target.close()
    assert not slow
    assert abs(deadline - wanted * 10**9) < 5 * 10**8


def test_signalfd_and_memfd():
    code = _LIBC + "os.dup2(c.signalfd(-1, struct.pack('<Q', 1 << 9 | 1 << 40), 0o4000), 50)"
    with rebuilt(code) as (before, new):
        same(before, new, 50)
        assert before[50].payload.sigmask == 1 << 9 | 1 << 40


def test_memfd_seen_through_two_descriptions():
    code = """
m = os.memfd_create("thing", os.MFD_ALLOW_SEALING); os.write(m, b"x" * 5000); os.dup2(m, 50)
os.dup2(os.open("/proc/self/fd/50", os.O_RDONLY), 51)
import fcntl; fcntl.fcntl(m, 1033, 4)
"""
    target = Target(code)
    try:
        context, tables = collected([target.pid])
        with context.stack:
            (shm,) = context.shared["shm"].values()
    finally:
        target.close()
    assert (shm.kind, shm.name, shm.size, shm.seals) == ("memfd", "thing", 5000, 4)
    made = os.memfd_create("thing")
    os.truncate(made, 5000)
    with restored(context.records, tables, shared={"shm_fds": {shm.key: made}}) as new:
        os.close(made)
        before = files_of(context, tables[0])
        a, b = os.stat(f"/proc/{new.pid}/fd/50"), os.stat(f"/proc/{new.pid}/fd/51")
        assert a.st_ino == b.st_ino
        for fd in (50, 51):
            assert (new.files[fd].flags, new.files[fd].pos) == (before[fd].flags, before[fd].pos)


EPOLL = """
import select
ev = [os.eventfd(0) for _ in range(5)]
for number, fd in zip(range(60, 65), ev): os.dup2(fd, number)
e = select.epoll(); os.dup2(e.fileno(), 50); e.close(); e = select.epoll.fromfd(50)
e.register(60, select.EPOLLIN | select.EPOLLET)
os.dup2(61, 70); e.register(70, select.EPOLLIN); os.close(70)                    # closed, lives on as 61
os.dup2(62, 71); e.register(71, select.EPOLLIN); os.dup2(63, 71)                 # reused
e.register(71, select.EPOLLOUT | select.EPOLLEXCLUSIVE)                          # the same number twice
e.register(64, select.EPOLLOUT | select.EPOLLONESHOT); assert len(e.poll(0, 8)) == 2
n = select.epoll(); n.register(50, select.EPOLLIN); os.dup2(n.fileno(), 51)
"""


def test_epoll_with_numbers_that_went_and_were_used_again():
    with rebuilt(EPOLL) as (before, new):
        fresh = {file.file_id: file for file in new.files.values()}
        for fd in (50, 51):
            a, b = before[fd].payload, new.files[fd].payload
            assert len(a.watches) == (5 if fd == 50 else 1)

            def plain(payload, ids):
                return sorted((w.tfd, w.events, w.data, ids[w.file_id], w.in_table) for w in payload.watches)

            old_numbers = {}
            for number, file in before.items():
                old_numbers.setdefault(file.file_id, number)
            new_numbers = {}
            for number, file in new.files.items():
                new_numbers.setdefault(file.file_id, number)
            assert plain(a, old_numbers) == plain(b, new_numbers)
        assert fresh
        # The one-shot watch of 64 stays spent; 63 can be written to.
        epoll, event = new.steal(50), new.steal(61)
        with select.epoll.fromfd(epoll) as e:
            assert e.poll(0, 8) == [(71, select.EPOLLOUT)]
            os.write(event, (1).to_bytes(8, "little"))
            assert (70, select.EPOLLIN) in e.poll(0, 8)
        os.close(event)
        assert {d.fd for d in new.table.fds} == set(before)


def test_epoll_watching_what_nobody_holds_is_refused():
    r, w = socket.socketpair()
    with r, w:
        # Another process (this one) keeps the description alive that the target closed.
        code = """
import select, socket
a, b = socket.socketpair(); e = select.epoll(); e.register(a, 1); os.dup2(e.fileno(), 50)
if not os.fork():
    os.kill(os.getpid(), signal.SIGSTOP)
a.close()
"""
        found = refusals(code)
    assert any("no descriptor of the tree holds" in r.reason for r in found)


def test_inotify(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "dir").mkdir()
    code = (
        _LIBC
        + """
i = c.inotify_init1(0o4000); p = sys.argv[1].encode()
for _ in range(3): c.inotify_rm_watch(i, c.inotify_add_watch(i, p, 2))
c.inotify_add_watch(i, p + b"/file", 0x2 | 0x20);
c.inotify_rm_watch(i, c.inotify_add_watch(i, p + b"/dir", 0x100))
c.inotify_add_watch(i, p + b"/dir", 0x100 | 0x01000000)
try: os.read(i, 65536)
except BlockingIOError: pass
os.dup2(i, 50)
"""
    )
    with rebuilt(code, str(tmp_path)) as (before, new):
        same(before, new, 50)
        assert [w.wd for w in before[50].payload.watches] == [4, 6]
        fd = new.steal(50)
        with pytest.raises(BlockingIOError):
            os.read(fd, 65536)
        (tmp_path / "dir" / "new").touch()
        wd, mask, _, length = struct.unpack_from("<iIII", event := os.read(fd, 65536))
        assert (wd, mask, event[16 : 16 + length].rstrip(b"\0")) == (6, 0x100, b"new")
        os.close(fd)


def test_pidfds_of_others():
    code = f"os.dup2(os.pidfd_open({os.getpid()}, os.O_NONBLOCK), 50)"
    with rebuilt(code) as (before, new):
        same(before, new, 50)
    gone = "p = os.fork()\nif not p: os._exit(0)\nf = os.pidfd_open(p); os.waitpid(p, 0); os.dup2(f, 50)"
    with rebuilt(gone) as (_, new):
        assert "Pid:\t-1\n" in Path(f"/proc/{new.pid}/fdinfo/50").read_text()
    target = Target(code)
    try:
        context, tables = collected([target.pid])
        context.stack.close()
    finally:
        target.close()
    other = [
        replace(r, payload=replace(r.payload, start_time=1)) if getattr(r, "kind", "") == "pidfd" else r
        for r in context.records
    ]
    with pytest.raises(RestoreError, match="does not exist here"), restored(other, tables):
        pass


def test_a_watched_file_without_a_handle_is_looked_for(tmp_path):
    (tmp_path / "deep" / "er").mkdir(parents=True)
    wanted = tmp_path / "deep" / "er" / "file"
    wanted.touch()
    (tmp_path / "beside").touch()
    target = Target("f = os.open(sys.argv[1] + '/beside', os.O_RDONLY)", str(tmp_path))
    try:
        context, _ = collected([target.pid])
        with context.stack:
            view = next(v for v in registry(context).views.values() if v.link.endswith("beside"))
            found = wanted.stat()
            sdev = os.major(found.st_dev) << 20 | os.minor(found.st_dev)
            values = {"ino": f"{found.st_ino:x}", "sdev": f"{sdev:x}"}  # as fdinfo says where handles cannot be made
            assert watched.find(context, view, values) == (str(wanted), 0)
            assert watched.find(context, view, values | {"ino": f"{view.stat.st_ino:x}"}) == (view.link, 0)
    finally:
        target.close()
