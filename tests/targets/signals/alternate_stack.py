"""The alternate signal stack, of the main thread and of another."""

import ctypes
import threading

from target_api import checkpoint, libc, run


class Stack(ctypes.Structure):
    _fields_ = [("sp", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t)]


def swap(new=None):
    old = Stack()
    assert libc.sigaltstack(ctypes.byref(new) if new else None, ctypes.byref(old)) == 0
    return old.sp, old.flags, old.size


def main():
    rooms = [ctypes.create_string_buffer(65536) for _ in range(2)]
    wanted = [(ctypes.addressof(room), 0, 65536 - 4096 * n) for n, room in enumerate(rooms)]
    gate, seen, ready = threading.Event(), [], threading.Event()

    def work():
        swap(Stack(*wanted[1]))
        ready.set()
        gate.wait()
        seen.append(swap())

    thread = threading.Thread(target=work)
    thread.start()
    ready.wait()
    swap(Stack(*wanted[0]))
    if checkpoint():
        swap(Stack(None, 2, 0))
    gate.set()
    thread.join()
    assert [swap(), *seen] == wanted, (swap(), seen, wanted)


run(main)
