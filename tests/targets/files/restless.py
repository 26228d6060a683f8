"""Files, directories and pipes under random change all the time; afterwards everything is as a model of them says."""

import os
import random
import stat

from target_api import DIR, checkpoint, run


class File:
    """An inode: its bytes and the names it has. Descriptors with offsets stand in `opened`."""

    def __init__(self, kind):
        self.kind, self.data, self.names = kind, bytearray(), set()


class Model:
    def __init__(self, seed):
        self.random, self.number = random.Random(seed), 0
        self.opened, self.live, self.folders, self.pipes = {}, [], [DIR / "top"], []
        (DIR / "top").mkdir()

    def name(self):
        self.number += 1
        odd = self.random.choice(("", " (deleted)", "\n", "\\n", " ", "é", "x" * 100))
        return self.random.choice(self.folders) / f"n{self.number}{odd}"

    def step(self, _=0):
        for _ in range(5):
            getattr(self, self.random.choice(OPERATIONS))()

    def pick(self, linked=None):
        found = [f for f in self.live if linked is None or bool(f.names) == linked]
        return self.random.choice(found) if found else None

    def descriptor(self):
        return self.random.choice(sorted(self.opened)) if self.opened else None

    def forget(self, file):
        if not file.names and all(description["file"] is not file for description in self.opened.values()):
            self.live.remove(file)

    # ------------------------------------------------------------ operations

    def create(self):
        if len(self.opened) > 60:
            return
        file, name = File("regular"), self.name()
        fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        file.names.add(name)
        self.live.append(file)
        self.opened[fd] = {"file": file, "at": 0, "append": False, "writes": True}

    def nameless(self):
        if len(self.opened) > 60:
            return
        file = File("regular")
        fd = os.open(self.random.choice(self.folders), os.O_RDWR | os.O_TMPFILE)
        self.live.append(file)
        self.opened[fd] = {"file": file, "at": 0, "append": False, "writes": True}

    def reopen(self):
        file = self.pick(True)
        if file is None or len(self.opened) > 60:
            return
        flags = self.random.choice((os.O_RDONLY, os.O_RDWR, os.O_RDWR | os.O_APPEND, os.O_WRONLY))
        fd = os.open(self.random.choice(sorted(file.names)), flags)
        self.opened[fd] = {"file": file, "at": 0, "append": bool(flags & os.O_APPEND), "writes": flags != os.O_RDONLY}

    def duplicate(self):
        fd = self.descriptor()
        if fd is not None and len(self.opened) < 60:
            self.opened[os.dup(fd)] = self.opened[fd]

    def close(self):
        fd = self.descriptor()
        if fd is not None:
            os.close(fd)
            self.forget(self.opened.pop(fd)["file"])

    def write(self):
        fd = self.descriptor()
        if fd is None or not self.opened[fd]["writes"]:
            return
        description, text = self.opened[fd], b"%d." % self.random.randrange(1 << 30) * self.random.randrange(1, 200)
        data = description["file"].data
        at = len(data) if description["append"] else description["at"]
        os.write(fd, text)
        data.extend(bytes(max(at - len(data), 0)))
        data[at : at + len(text)] = text
        description["at"] = at + len(text)

    def seek(self):
        fd = self.descriptor()
        if fd is not None:
            self.opened[fd]["at"] = os.lseek(fd, self.random.randrange(5000), os.SEEK_SET)

    def truncate(self):
        fd = self.descriptor()
        if fd is not None and self.opened[fd]["writes"]:
            data, size = self.opened[fd]["file"].data, self.random.randrange(6000)
            os.ftruncate(fd, size)
            del data[size:]
            data.extend(bytes(size - len(data)))

    def unlink(self):
        file = self.pick(True)
        if file is not None:
            name = self.random.choice(sorted(file.names))
            os.unlink(name)
            file.names.remove(name)
            if self.random.random() < 0.3:  # another takes the name
                other = File("regular")
                name.touch()
                other.names.add(name)
                self.live.append(other)
            self.forget(file)

    def link(self):
        file = self.pick(True)
        if file is not None:
            name = self.name()
            os.link(min(file.names), name)
            file.names.add(name)

    def rename(self):
        file, other = self.pick(True), self.pick(True)
        if file is None or other is None:
            return
        old = self.random.choice(sorted(file.names))
        new = self.name() if self.random.random() < 0.5 else self.random.choice(sorted(other.names))
        os.rename(old, new)
        if new in file.names:  # of the same inode: nothing happens
            return
        file.names.remove(old)
        if new in other.names:
            other.names.remove(new)
        file.names.add(new)
        self.forget(other)

    def folder(self):
        if len(self.folders) < 6:
            path = self.name()
            path.mkdir()
            self.folders.append(path)

    def drop_folder(self):
        empty = [path for path in self.folders[1:] if not os.listdir(path)]
        if empty:
            path = self.random.choice(empty)
            path.rmdir()
            self.folders.remove(path)

    def pipe(self):
        if len(self.pipes) > 8:
            reader, writer, _ = self.pipes.pop(self.random.randrange(len(self.pipes)))
            os.close(reader)
            os.close(writer)
        elif self.random.random() < 0.5:
            self.pipes.append([*os.pipe(), bytearray()])
        else:
            name = self.name()
            os.mkfifo(name)
            reader = os.open(name, os.O_RDONLY | os.O_NONBLOCK)
            self.pipes.append([reader, os.open(name, os.O_WRONLY), bytearray()])
            if self.random.random() < 0.5:
                name.unlink()

    def flow(self):
        if self.pipes:
            reader, writer, data = self.random.choice(self.pipes)
            if len(data) < 30000:
                data += (text := os.urandom(self.random.randrange(1, 3000)))
                os.write(writer, text)
            if self.random.random() < 0.5:
                got = os.read(reader, self.random.randrange(1, len(data) + 1))
                assert data.startswith(got) and got
                del data[: len(got)]

    # ------------------------------------------------------------ the check

    def check(self):
        inodes = {}
        for fd, description in self.opened.items():
            file, found = description["file"], os.fstat(fd)
            assert inodes.setdefault(found.st_ino, file) is file, f"fd {fd} is another file"
            assert found.st_nlink == len(file.names) and found.st_size == len(file.data), (fd, found, file.names)
            assert os.lseek(fd, 0, os.SEEK_CUR) == description["at"], f"offset of fd {fd}"
            with open(f"/proc/self/fd/{fd}", "rb") as stream:
                assert stream.read() == file.data, f"contents of fd {fd}"
        for file in self.live:
            for name in file.names:
                assert name.read_bytes() == file.data and inodes.get(name.stat().st_ino, file) is file, name
        names = {name for file in self.live for name in file.names}
        for folder in self.folders:
            for entry in os.scandir(folder):
                path = folder / entry.name
                known = path in names or path in self.folders or stat.S_ISFIFO(entry.stat().st_mode)
                assert known, f"{path} is left behind"
        for reader, _, data in self.pipes:
            while data:
                got = os.read(reader, 1 << 16)
                assert data.startswith(got), "contents of a pipe"
                del data[: len(got)]


OPERATIONS = [
    "create",
    "nameless",
    "reopen",
    "duplicate",
    "close",
    "write",
    "write",
    "seek",
    "truncate",
    "unlink",
    "link",
    "rename",
    "folder",
    "drop_folder",
    "pipe",
    "flow",
    "flow",
]


def main():
    seed = int.from_bytes(os.urandom(4), "little")
    print("seed", seed, flush=True)
    model = Model(seed)
    for _ in range(60):
        model.step()
    if checkpoint(model.step, same=False):
        model.create()
        model.opened[max(model.opened)]["at"] = 99
    model.check()
    model.step()
    model.check()


run(main)
