"""Open files by path, deleted ones, pipes: collected from a stopped program, rebuilt in another process. Root."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from files_roundtrip import Target, collected, files_of, restored

from ckpt.errors import FileChanged

pytestmark = pytest.mark.root


@pytest.fixture
def target(request):
    made = []

    def start(code, *arguments):
        made.append(Target(code, *arguments))
        return made[-1]

    yield start
    for one in made:
        one.close()


def take(target, **options):
    context, tables = collected([target.pid], **options)
    context.stack.close()
    return context, tables


def test_numbers_flags_positions_and_sharing(target, tmp_path):
    path = tmp_path / "data"
    path.write_bytes(b"0123456789" * 10)
    t = target(
        """
p = sys.argv[1]
a = os.open(p, os.O_RDWR); os.lseek(a, 42, 0)
os.dup2(a, 100, inheritable=True)
b = os.open(p, os.O_RDONLY | os.O_CLOEXEC); os.dup2(b, 77, inheritable=False)
c = os.open(p, os.O_WRONLY | os.O_APPEND | os.O_NOATIME); os.dup2(c, 300)
os.open(os.path.dirname(p), os.O_RDONLY)
os.open(p, os.O_PATH)
for n in range(400, 700): os.dup2(a, n)
""",
        str(path),
    )
    context, tables = take(t)
    assert not context.refusals
    with restored(context.records, tables) as new:
        before = files_of(context, tables[0])
        assert [(d.fd, d.cloexec) for d in new.table.fds] == [(d.fd, d.cloexec) for d in tables[0].fds]
        for fd, file in before.items():
            other = new.files[fd]
            assert (other.kind, other.flags, other.pos) == (file.kind, file.flags, file.pos), fd
            assert other.payload == file.payload
        ids = {d.fd: d.file_id for d in new.table.fds}
        assert ids[100] == ids[400] == ids[699] != ids[77]


def test_deleted_file_is_one_inode_for_all_its_descriptions(target, tmp_path):
    t = target(
        """
p = sys.argv[1] + "/gone"
a = os.open(p, os.O_RDWR | os.O_CREAT, 0o640); b = os.open(p, os.O_RDONLY)
os.write(a, b"head"); os.pwrite(a, b"tail", 1 << 20); os.dup2(a, 50); os.dup2(b, 51); os.unlink(p)
""",
        str(tmp_path),
    )
    context, tables = take(t)
    assert not context.refusals
    with restored(context.records, tables) as new:
        a, b = new.steal(50), new.steal(51)
        assert os.fstat(a).st_ino == os.fstat(b).st_ino
        assert os.fstat(a).st_nlink == 0
        assert os.fstat(a).st_mode & 0o777 == 0o640
        assert os.fstat(a).st_size == (1 << 20) + 4
        assert os.fstat(a).st_blocks < 1024
        assert os.pread(b, 4, 0) == b"head"
        assert os.pread(b, 8, (1 << 20) - 4) == bytes(4) + b"tail"
        assert new.files[50].pos == 4
        os.close(a)
        os.close(b)
    assert list(tmp_path.iterdir()) == []


def test_big_deleted_file_is_refused(target, tmp_path):
    t = target(
        'f = open(sys.argv[1] + "/x", "wb"); f.write(bytes(17 << 20)); f.flush(); os.unlink(f.name)',
        str(tmp_path),
    )
    context, _ = take(t)
    (refusal,) = context.refusals
    assert "--ghost-limit" in refusal.hint


def test_file_deleted_under_one_name_is_opened_by_the_other(target, tmp_path):
    code = """
os.chdir(sys.argv[1])
a = os.open("one", os.O_RDWR | os.O_CREAT); os.write(a, b"abc"); os.link("one", "two"); os.unlink("one")
"""
    t = target(code, str(tmp_path))
    context, tables = take(t)
    assert not context.refusals
    fd = max(d.fd for d in tables[0].fds)
    with restored(context.records, tables) as new:
        assert os.readlink(f"/proc/{new.pid}/fd/{fd}") == str(tmp_path / "two")


@pytest.mark.parametrize(
    ("mode", "change", "fails"),
    [
        ("os.O_RDWR", "grow", True),
        ("os.O_RDWR", "remove", True),
        ("os.O_RDONLY", "shrink", True),
        ("os.O_RDONLY", "grow", False),
        ("os.O_WRONLY | os.O_APPEND", "grow", False),
    ],
)
def test_changed_files(target, tmp_path, mode, change, fails):
    path = tmp_path / "data"
    path.write_bytes(b"x" * 100)
    t = target(f"a = os.open(sys.argv[1], {mode}); os.lseek(a, 50, 0)", str(path))
    context, tables = take(t)
    if change == "remove":
        path.unlink()
    else:
        path.write_bytes(b"x" * (200 if change == "grow" else 10))
    if not fails:
        with restored(context.records, tables):
            return
    with pytest.raises(FileChanged, match=str(path)), restored(context.records, tables):
        pass


def test_pipe_with_data(target):
    t = target(
        """
import fcntl
r, w = os.pipe(); fcntl.fcntl(w, 1031, 1 << 18); os.write(w, b"a" * 100000); os.write(w, b"end")
os.set_blocking(r, False); os.dup2(r, 50); os.dup2(w, 51)
r, w = os.pipe2(os.O_DIRECT); os.write(w, b"one"); os.write(w, b"three"); os.dup2(r, 52); os.dup2(w, 53)
r, w = os.pipe(); os.write(w, b"last words"); os.dup2(r, 54); os.close(w); os.close(r)
"""
    )
    context, tables = take(t)
    assert not context.refusals
    assert take(t)[0].records == context.records  # nothing was taken out
    t.close()
    with restored(context.records, tables) as new:
        r, p, last = new.steal(50), new.steal(52), new.steal(54)
        data = b""
        while len(data) < 100003:
            data += os.read(r, 1 << 20)
        assert data == b"a" * 100000 + b"end"
        with pytest.raises(BlockingIOError):
            os.read(r, 1)
        assert [os.read(p, 100), os.read(p, 100)] == [b"one", b"three"]
        assert os.read(last, 100) == b"last words"
        assert os.read(last, 100) == b""
        for fd in (50, 51, 52, 53, 54):
            assert new.files[fd].flags == files_of(context, tables[0])[fd].flags
        for fd in (r, p, last):
            os.close(fd)


def test_pipe_to_the_outside_is_refused(target):
    r, w = os.pipe()
    os.set_inheritable(w, True)
    try:
        from subprocess import Popen

        # the target opens it by way of this process, which stays outside its tree
        t = target("os.open(sys.argv[1], os.O_WRONLY)", f"/proc/{os.getpid()}/fd/{w}")
        context, _ = take(t)
        assert Popen
    finally:
        os.close(r)
        os.close(w)
    (refusal,) = context.refusals
    assert "outside the tree" in refusal.reason


def test_fifo(target, tmp_path):
    t = target(
        """
p = sys.argv[1] + "/f"; os.mkfifo(p)
r = os.open(p, os.O_RDONLY | os.O_NONBLOCK); w = os.open(p, os.O_WRONLY); os.write(w, b"waiting")
os.dup2(r, 50); os.dup2(w, 51)
q = sys.argv[1] + "/g"; os.mkfifo(q); os.dup2(os.open(q, os.O_RDONLY | os.O_NONBLOCK), 52); os.unlink(q)
""",
        str(tmp_path),
    )
    context, tables = take(t)
    assert not context.refusals
    t.close()
    with restored(context.records, tables) as new:
        r = new.steal(50)
        assert os.read(r, 100) == b"waiting"
        os.close(r)
        assert os.readlink(f"/proc/{new.pid}/fd/51") == str(tmp_path / "f")
        assert os.readlink(f"/proc/{new.pid}/fd/52").endswith("(deleted)")
        assert [new.files[fd].flags for fd in (50, 51, 52)] == [
            files_of(context, tables[0])[fd].flags for fd in (50, 51, 52)
        ]
    assert [p.name for p in Path(tmp_path).iterdir()] == ["f"]


def test_eventfd(target):
    t = target("os.dup2(os.eventfd(7, os.EFD_SEMAPHORE | os.EFD_NONBLOCK), 50); os.dup2(os.eventfd(0), 51)")
    context, tables = take(t)
    with restored(context.records, tables) as new:
        before = files_of(context, tables[0])
        for fd in (50, 51):
            assert (new.files[fd].payload, new.files[fd].flags) == (before[fd].payload, before[fd].flags)
