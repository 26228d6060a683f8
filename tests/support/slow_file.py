"""slow_file.py DIRECTORY: a FUSE file system of one file, `f`, whose reads are answered by a line on standard input.

Answers each line, whose first letter fills what was asked for.
"""

import ctypes
import os
import struct
import sys
import threading
import time

LOOKUP, GETATTR, OPEN, READ, FORGET, RELEASE, FLUSH, INIT, BATCH_FORGET = 1, 3, 14, 15, 2, 18, 25, 26, 42
ASYNC_READ, ASYNC_DIO, ENOENT, ENOSYS = 1, 1 << 15, 2, 38
SIZE = 1 << 20


def attributes(ino: int) -> bytes:
    mode = 0o40755 if ino == 1 else 0o100644
    return struct.pack("<6Q10I", ino, 0 if ino == 1 else SIZE, 1, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)


class Served:
    def __init__(self, place: str) -> None:
        self.fd = os.open("/dev/fuse", os.O_RDWR)
        self.waiting: list[tuple[int, int]] = []
        options = f"fd={self.fd},rootmode=40000,user_id=0,group_id=0".encode()
        if ctypes.CDLL(None, use_errno=True).mount(b"slow", place.encode(), b"fuse", 0, options):
            raise OSError(ctypes.get_errno(), "mount")

    def reply(self, unique: int, data: bytes = b"", error: int = 0) -> None:
        os.write(self.fd, struct.pack("<IiQ", 16 + len(data), -error, unique) + data)

    def answer(self) -> None:
        for line in sys.stdin:
            while not self.waiting:
                time.sleep(0.01)
            while self.waiting:
                unique, size = self.waiting.pop()
                self.reply(unique, line[0].encode() * size)
            print("answered", flush=True)

    def serve(self) -> None:
        while True:
            _, operation, unique, ino = struct.unpack_from("<IIQQ", request := os.read(self.fd, SIZE))
            body = request[40:]
            if operation == INIT:
                flags = ASYNC_READ | ASYNC_DIO
                self.reply(unique, struct.pack("<4I2H2I2HI24x", 7, 31, 65536, flags, 16, 12, 65536, 1, 64, 0, 0))
            elif operation == LOOKUP and body == b"f\0":
                self.reply(unique, struct.pack("<4Q2I", 2, 0, 9, 9, 0, 0) + attributes(2))
            elif operation == GETATTR:
                self.reply(unique, struct.pack("<Q2I", 9, 0, 0) + attributes(ino))
            elif operation == OPEN:
                self.reply(unique, struct.pack("<Q2I", 1, 1, 0))
            elif operation == READ:
                self.waiting.append((unique, struct.unpack_from("<2QI", body)[2]))
            elif operation in (RELEASE, FLUSH):
                self.reply(unique)
            elif operation not in (FORGET, BATCH_FORGET):
                self.reply(unique, error=ENOENT if operation == LOOKUP else ENOSYS)


if __name__ == "__main__":
    served = Served(sys.argv[1])
    threading.Thread(target=served.answer, daemon=True).start()
    print("up", flush=True)
    served.serve()
