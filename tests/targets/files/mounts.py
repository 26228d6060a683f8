"""Files on mounts of the task's own, and files, FIFOs, devices and working directories that a mount hides by now."""

import ctypes
import os
import stat

from target_api import DIR, checkpoint, child, eventually, exit_code, libc, publish, run, wait_for_go

RDONLY, REMOUNT, BIND, DETACH = 1, 32, 4096, 2


def mount(source, at, kind=None, flags=0, options=b""):
    names = [os.fsencode(str(name)) for name in (source, at)]
    if libc.mount(*names, kind, ctypes.c_ulong(flags), options):
        raise OSError(ctypes.get_errno(), f"mount on {at}")


def on_mounts():
    """A tmpfs, which is read-only afterwards, a bound file, a bound directory, an overlay."""
    for name in ("tmpfs", "here", "there", "low", "up", "work", "overlay"):
        (DIR / name).mkdir()
    mount("none", DIR / "tmpfs", b"tmpfs")
    (DIR / "tmpfs" / "kept").write_text("in tmpfs")
    (DIR / "tmpfs" / "gone").write_text("gone")
    kept, gone = os.open(DIR / "tmpfs" / "kept", os.O_RDONLY), os.open(DIR / "tmpfs" / "gone", os.O_RDONLY)
    (DIR / "tmpfs" / "gone").unlink()
    mount("none", DIR / "tmpfs", None, RDONLY | REMOUNT | BIND)
    (DIR / "source").write_text("bound")
    (DIR / "target").touch()
    mount(DIR / "source", DIR / "target", None, BIND)
    bound = os.open(DIR / "target", os.O_RDWR)
    mount(DIR / "here", DIR / "there", None, BIND)
    deleted = os.open(DIR / "there" / "deleted", os.O_RDWR | os.O_CREAT)
    os.write(deleted, b"deleted")
    (DIR / "here" / "deleted").unlink()
    (DIR / "low" / "copied").write_text("Low")
    options = f"lowerdir={DIR}/low,upperdir={DIR}/up,workdir={DIR}/work".encode()
    mount("none", DIR / "overlay", b"overlay", 0, options)
    copied = os.open(DIR / "overlay" / "copied", os.O_RDWR)
    os.pwrite(copied, b"l", 0)
    return {kept: b"in tmpfs", gone: b"gone", bound: b"bound", deleted: b"deleted", copied: b"low"}


def hidden():
    """What stands below a mount now."""
    (DIR / "folder").mkdir()
    (DIR / "folder" / "file").write_text("below")
    (DIR / "folder" / "deleted").write_text("deleted below")
    (DIR / "over").write_text("over")
    os.mkfifo(DIR / "fifo")
    os.mknod(DIR / "null", 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    names = ("folder/file", "folder/deleted", "fifo", "null")
    fds = [os.open(DIR / name, os.O_RDWR) for name in names] + [os.open(DIR / "folder", os.O_RDONLY)]
    os.write(fds[2], b"in the fifo")
    (DIR / "folder" / "deleted").unlink()
    for name in ("fifo", "null"):
        mount(DIR / "over", DIR / name, None, BIND)
    return fds


def below():
    os.chdir(DIR / "folder")
    publish("inside", "")
    wait_for_go()
    return os.listdir(".") != ["file"]


def main():
    texts = on_mounts()
    fds = hidden()
    pid = child(below)
    eventually((DIR / "inside").exists, "the child is in the folder")
    mount("none", DIR / "folder", b"tmpfs")
    if checkpoint():
        os.pwrite(fds[0], b"?", 0)
    for fd, text in texts.items():
        assert os.pread(fd, 99, 0) == text, (os.readlink(f"/proc/self/fd/{fd}"), text)
    file, deleted, fifo, null, folder = fds
    assert os.pread(file, 99, 0) == b"below" and os.pread(deleted, 99, 0) == b"deleted below"
    assert os.fstat(deleted).st_nlink == 0 and os.readlink(f"/proc/self/fd/{file}") == str(DIR / "folder" / "file")
    assert os.read(fifo, 99) == b"in the fifo" and os.fstat(null).st_rdev == os.makedev(1, 3)
    assert os.listdir(folder) == ["file"] and os.listdir(DIR / "folder") == [] and exit_code(pid) == 0


run(main)
