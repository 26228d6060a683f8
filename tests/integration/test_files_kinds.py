"""Kinds of open files one by one: a program opens them and stops, another process gets them. Needs root."""

from __future__ import annotations

import ctypes
import fcntl
import os

import pytest
from files_roundtrip import Image, Restored, Target, collected, files_of, rebuilt, restored

from ckpt.errors import RestoreError
from ckpt.kernel.descriptors import steal_descriptor
from ckpt.records.files import FileRecord
from ckpt.state.context import RestoreContext
from ckpt.state.files import collect, procfiles

pytestmark = pytest.mark.root

_LIBC = "import ctypes, struct; c = ctypes.CDLL(None, use_errno=True)\n"


def same(before: dict[int, FileRecord], new: Restored, *fds: int) -> None:
    for fd in fds:
        a, b = before[fd], new.files[fd]
        assert (b.kind, b.flags, b.pos, b.payload) == (a.kind, a.flags, a.pos, a.payload), fd


def test_directory_and_tmpfile_and_devices(tmp_path):
    for n in range(20):
        (tmp_path / f"entry{n}").touch()
    code = """
d = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECTORY); os.dup2(d, 50)
ctypes.CDLL(None).syscall(217, d, ctypes.create_string_buffer(200), 200)
t = os.open(sys.argv[1], os.O_TMPFILE | os.O_RDWR, 0o600); os.write(t, b"nameless"); os.dup2(t, 51)
os.dup2(os.open("/dev/zero", os.O_RDWR | os.O_NONBLOCK), 52)
link = sys.argv[1] + "/link"; os.symlink("nowhere", link)
os.dup2(os.open(link, os.O_PATH | os.O_NOFOLLOW), 53)
"""
    with rebuilt("import ctypes\n" + code, str(tmp_path)) as (before, new):
        assert before[50].pos > 0
        same(before, new, 50, 52, 53)
        fd = new.steal(51)
        assert os.pread(fd, 100, 0) == b"nameless"
        assert before[51].flags == new.files[51].flags
        # O_TMPFILE still means that it can be given a name: linkat with AT_SYMLINK_FOLLOW
        old, name = f"/proc/self/fd/{fd}".encode(), os.fsencode(tmp_path / "named")
        assert ctypes.CDLL(None).linkat(-100, old, -100, name, 0x400) == 0
        os.close(fd)
    assert (tmp_path / "named").read_bytes() == b"nameless"


def test_deleted_directory(tmp_path):
    code = "p = sys.argv[1] + '/d'; os.mkdir(p); os.dup2(os.open(p, os.O_RDONLY), 50); os.rmdir(p)"
    with rebuilt(code, str(tmp_path)) as (before, new):
        assert before[50].flags == new.files[50].flags
        assert os.stat(f"/proc/{new.pid}/fd/50").st_nlink == 0


def test_locks(tmp_path):
    path = tmp_path / "locked"
    path.write_bytes(bytes(1000))
    code = """
import fcntl, struct
p = sys.argv[1]
a, b, c, d = (os.open(p, os.O_RDWR) for _ in range(4))
for fd, n in ((a, 50), (b, 51), (c, 52), (d, 53)): os.dup2(fd, n); os.close(fd)
fcntl.flock(50, fcntl.LOCK_SH)
fcntl.lockf(51, fcntl.LOCK_EX, 10, 100)
fcntl.lockf(51, fcntl.LOCK_SH, 0, 500)
fcntl.fcntl(52, 37, struct.pack("<hhxxxxqqixxxx", 1, 0, 200, 50, 0))
q = p + ".leased"; open(q, "w").close()
os.dup2(os.open(q, os.O_RDONLY), 54)
fcntl.fcntl(54, 1024, 0)
"""
    with rebuilt(code, str(path)) as (before, new):
        locks = {(x.kind, x.write, x.start, x.end, x.fd) for x in new.context.records if x.RECORD_NAME == "file-lock"}
        assert ("flock", False, 0, -1, 50) in locks
        assert ("posix", True, 100, 109, 51) in locks
        assert ("posix", False, 500, -1, 51) in locks
        assert ("ofd", True, 200, 249, 52) in locks
        assert any(kind == "lease" for kind, *_ in locks)
        assert len(locks) == 5
        with open(path, "r+b") as f:
            with pytest.raises(BlockingIOError):
                fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 105)
            with pytest.raises(BlockingIOError):
                fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
            fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 50)
        # an opener for writing would have to break the lease: not this one
        same(before, new, 50, 51, 52, 53)


def test_lock_that_another_holds(tmp_path):
    path = tmp_path / "locked"
    path.touch()
    code = "import fcntl; os.dup2(os.open(sys.argv[1], os.O_RDWR), 50); fcntl.flock(50, fcntl.LOCK_EX)"
    with pytest.raises(RestoreError, match="flock lock on fd"), rebuilt(code, str(path), keep_running=True):
        pass


def test_owner_and_signal():
    code = """
import fcntl, struct
r, w = os.pipe(); os.dup2(r, 50); os.dup2(w, 51)
fcntl.fcntl(50, 15, struct.pack("<ii", 1, int(sys.argv[1]))); fcntl.fcntl(50, 10, 40)
fcntl.fcntl(50, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
"""
    owner = Target("signal.signal(40, signal.SIG_IGN)")
    try:
        with rebuilt(code, str(owner.pid)) as (before, new):
            a, b = before[50], new.files[50]
            assert (a.owner_type, a.owner_pid, a.owner_sig) == (1, owner.pid, 40)
            assert (b.owner_type, b.owner_pid, b.owner_sig) == (1, owner.pid, 40)
            assert a.flags == b.flags
    finally:
        owner.close()


def test_proc_files():
    code = "os.dup2(os.open('/proc/meminfo', 0), 50); os.dup2(os.open('/proc/self/ns/net', 0), 51)"
    with rebuilt(code) as (before, new):
        same(before, new, 50, 51)
    with_self = "os.dup2(os.open('/proc/self/status', 0), 50); os.dup2(os.open('/proc/self/task', 0), 51)"
    target = Target(with_self)
    try:
        context, tables = collected([target.pid])
        with context.stack:
            files = files_of(context, tables[0])
        for fd in (50, 51):
            opened = procfiles.KIND.restore(files[fd], RestoreContext(Image([]), frozenset()))
            assert os.fstat(opened).st_ino == os.stat(f"/proc/{target.pid}/fd/{fd}").st_ino
            os.close(opened)
    finally:
        target.close()


@pytest.mark.parametrize(
    ("code", "word"),
    [
        ("c.syscall(425, 4, ctypes.create_string_buffer(120))", "io_uring"),
        ("c.syscall(323, 1)", "userfaultfd"),
        ("c.fanotify_init(4, 0)", "fanotify"),
        ("os.open('/dev/kmsg', 0)", "kmsg"),
        (f"os.open('/proc/{os.getpid()}/status', 0)", "outside the tree"),
        ("os.open('/dev/net/tun', 2)", "tun"),
        ("c.syscall(447, 0)", "secret memory"),
    ],
)
def test_refused_by_name(code, word):
    text = (
        _LIBC
        + f"""
try: fd = {code}
except OSError: fd = -1
if fd < 0: os.dup2(0, 90)
"""
    )
    target = Target(text)
    try:
        if os.path.exists(f"/proc/{target.pid}/fd/90"):
            pytest.skip("this kernel or container has none of it")
        context, _ = collected([target.pid])
        with context.stack:
            (refusal,) = context.refusals
    finally:
        target.close()
    assert word in refusal.reason
    assert refusal.hint


TREE = """
import ctypes
f = os.open(sys.argv[1], os.O_RDWR); g = os.open(sys.argv[1], os.O_RDWR); os.dup2(f, 50); os.dup2(g, 51)
p = os.fork()
if not p:
    os.dup2(51, 60); os.open(sys.argv[1], os.O_RDWR)
    os.kill(os.getpid(), signal.SIGSTOP); os._exit(0)
# a child that shares the table: clone(CLONE_FILES | SIGCHLD)
q = ctypes.CDLL(None).syscall(56, 0x400 | 17, 0, 0, 0, 0)
if not q:
    os.kill(os.getpid(), signal.SIGSTOP); os._exit(0)
os.waitpid(p, os.WUNTRACED); os.waitpid(q, os.WUNTRACED)
"""


def test_sharing_between_tasks(tmp_path):
    (tmp_path / "x").touch()
    target = Target(TREE, str(tmp_path / "x"))
    try:
        with open(f"/proc/{target.pid}/task/{target.pid}/children") as f:
            p, q = sorted(map(int, f.read().split()))
        context, tables = collected([target.pid, p, q])
        with context.stack:
            assert [t.table_id for t in tables] == [target.pid, p]
            assert collect.table_of(context, q) == target.pid
            first, second = ({d.fd: d.file_id for d in t.fds} for t in tables)
            assert first[50] == second[50] != first[51] == second[51] == second[60]
            own = set(second.values()) - set(first.values())
            assert len(own) == 1
            files = [r for r in context.records if r.RECORD_NAME == "file"]
            assert len(files) == len({r.file_id for r in files}) == len({*first.values(), *second.values()})

            held = steal_descriptor(p, 60)
            context.stack.callback(os.close, held)
            assert collect.collect_stolen(context, target.pid, held) == first[51]
            foreign = os.open(tmp_path / "x", os.O_RDONLY)
            context.stack.callback(os.close, foreign)
            fresh = collect.collect_stolen(context, target.pid, foreign)
            assert fresh not in {*first.values(), *second.values()}
            again = os.dup(foreign)
            context.stack.callback(os.close, again)
            assert collect.collect_stolen(context, target.pid, again) == fresh
    finally:
        target.close()


def test_mapped_files(tmp_path):
    code = """
import mmap
f = open(sys.argv[1] + "/lib", "w+b"); f.write(b"kept" + bytes(4096)); f.flush()
m = mmap.mmap(f.fileno(), 4096); f.close(); os.unlink(sys.argv[1] + "/lib")
"""
    target = Target(code, str(tmp_path))
    try:
        context, tables = collected([target.pid])
        with context.stack:
            with open(f"/proc/{target.pid}/maps") as f:
                line = next(line for line in f if "/lib (deleted)" in line)
            link = f"/proc/{target.pid}/map_files/{line.split()[0]}"
            file_id = collect.collect_mapped_file(context, target.pid, link, os.O_RDWR)
            assert collect.collect_mapped_file(context, target.pid, link, os.O_RDWR) == file_id
            exe = collect.collect_mapped_file(context, target.pid, f"/proc/{target.pid}/exe", os.O_RDONLY)
            assert not context.refusals
    finally:
        target.close()
    with restored(context.records, tables) as new:
        files = {f.file_id: f for f in new.rebuilt.files.values()}
        assert files[exe].payload.path == os.readlink("/proc/self/exe")
        assert files[file_id].kind == "ghost"


def test_many_descriptors_do_not_take_the_channels_number():
    code = "os.closerange(3, 1000)\nfor n in range(3, 500): os.dup2(0, n, inheritable=bool(n % 3))\nos.close(0)"
    with rebuilt(code) as (before, new):
        assert [(d.fd, d.cloexec) for d in new.table.fds] == [(n, n > 2 and not n % 3) for n in range(1, 500)]
        assert set(before) == set(new.files)
