"""Several readers and writers of one pipe in different tasks: the end comes when the last writer goes, EPIPE too."""

import os
import signal

from target_api import checkpoint, child, exit_code, run, wait_for_go


def main():
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    reader, writer = os.pipe()
    back, told = os.pipe()
    lost, nobody = os.pipe()
    os.close(lost)

    def write(text):
        os.close(reader)
        wait_for_go()
        os.write(writer, text)
        os.read(back, 1)

    def read():
        os.close(writer)
        wait_for_go()
        os.read(back, 1)

    pids = [child(write, b"%d" % n) for n in range(3)] + [child(read)]
    os.write(writer, b"!")
    if checkpoint():
        os.read(reader, 1)
    os.close(writer)
    seen = b""
    while len(seen) < 4:
        seen += os.read(reader, 10)
    assert sorted(seen) == sorted(b"!012"), seen
    os.set_blocking(reader, False)
    try:
        os.read(reader, 1)
        raise AssertionError("no writer is left")
    except BlockingIOError:
        pass
    os.write(told, b"xxxx")
    assert [exit_code(pid) for pid in pids] == [0] * 4
    assert os.read(reader, 1) == b""
    try:
        os.write(nobody, b"x")
    except BrokenPipeError:
        return
    raise AssertionError("somebody reads the pipe that nobody reads")


run(main)
