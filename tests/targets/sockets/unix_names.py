"""Socket files: relative, deleted, replaced, renamed, in a directory that is gone, with another mode and owner."""

import os
import socket

from target_api import DIR, checkpoint, run


def listener(name):
    made = socket.socket(socket.AF_UNIX)
    made.bind(name)
    made.listen()
    return made


def connected(server, name):
    client = socket.socket(socket.AF_UNIX)
    client.connect(name)
    connection, _ = server.accept()
    connection.send(b"y")
    return client.recv(1) == b"y"


def main():
    for name in ("sub", "gone", "elsewhere"):
        (DIR / name).mkdir()
    os.chdir(DIR / "sub")
    relative = listener("relative")
    os.chdir(DIR / "elsewhere")
    deleted = listener(str(DIR / "deleted"))
    os.unlink(DIR / "deleted")
    first = listener(str(DIR / "replaced"))
    os.unlink(DIR / "replaced")
    second = listener(str(DIR / "replaced"))
    by_file = listener(str(DIR / "by_file"))
    os.unlink(DIR / "by_file")
    (DIR / "by_file").write_text("a file")
    lost = listener(str(DIR / "gone" / "name"))
    os.unlink(DIR / "gone" / "name")
    os.rmdir(DIR / "gone")
    owned = listener(str(DIR / "owned"))
    os.chown(DIR / "owned", 7, 8)
    os.chmod(DIR / "owned", 0o1604)
    sockets = [relative, deleted, first, second, by_file, lost, owned]
    names = [one.getsockname() for one in sockets]
    files = sorted(str(path) for path in DIR.rglob("*") if path.is_socket())
    if checkpoint():
        os.unlink(DIR / "owned")
    assert [one.getsockname() for one in sockets] == names
    assert sorted(str(path) for path in DIR.rglob("*") if path.is_socket()) == files
    assert (DIR / "by_file").read_text() == "a file" and not (DIR / "gone").exists()
    assert connected(second, str(DIR / "replaced")) and connected(owned, str(DIR / "owned"))
    found = os.stat(DIR / "owned")
    assert (found.st_mode & 0o7777, found.st_uid, found.st_gid) == (0o1604, 7, 8)
    os.chdir(DIR / "sub")
    assert connected(relative, "relative")


run(main)
