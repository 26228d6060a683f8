"""What every target shares: the protocol with the harness, and the few calls that Python lacks.

A target is run as `python target.py DIR`. It builds its state, calls `checkpoint()`, which writes DIR/ready and
waits for DIR/go, and then asserts that its state is what it was; `run` writes DIR/verdict. `checkpoint` is true
when the harness wants the target to damage its state first: the verdict must then be FAIL.
"""

import ctypes
import errno
import os
import select
import stat
import sys
import time
import traceback
from pathlib import Path

DIR = Path(sys.argv[1]) if len(sys.argv) > 1 else Path("/nonexistent")
PAGE = 4096
libc = ctypes.CDLL(None, use_errno=True)


class Skip(Exception):
    """This machine lacks what the target is about."""


def call(name, *args):
    """A function of the C library; integers are passed as longs; -1 raises OSError."""
    function = getattr(libc, name)
    function.restype = ctypes.c_long
    result = function(*[ctypes.c_long(a) if isinstance(a, int) else a for a in args])
    if result == -1 or result == 0xFFFFFFFF:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return result


def prctl(option, *args):
    return call("prctl", option, *(list(args) + [0] * (4 - len(args))))


def mmap(size, prot=3, flags=0x22, fd=-1, offset=0, address=0):
    """The address of a new mapping; private, anonymous and writable unless told otherwise."""
    return call("mmap", address, size, prot, flags, fd, offset)


def poke(address, data):
    ctypes.memmove(address, data, len(data))


def peek(address, size):
    return ctypes.string_at(address, size)


def accessible(address):
    """Whether the byte there can be read, found out without a fault."""
    reader, writer = os.pipe()
    try:
        return libc.write(writer, ctypes.c_void_p(address), ctypes.c_size_t(1)) == 1
    finally:
        os.close(reader)
        os.close(writer)


def pattern(seed, size=PAGE):
    """Bytes that depend on the seed, cheap, and different in every page."""
    return (b"%016d" % seed * (size // 16 + 1))[:size]


def vma(address):
    """The lines of smaps about the mapping that holds the address, as a dict; "" holds the head line."""
    found = None
    for line in Path("/proc/self/smaps").read_text().splitlines():
        name, _, value = line.partition(":")
        if name and " " not in name and found is not None:
            found[name] = value.strip()
        elif "-" in line.split(" ")[0]:
            if found is not None:
                return found
            start, end = (int(x, 16) for x in line.split(" ")[0].split("-"))
            if start <= address < end:
                found = {"": line}
    if found is None:
        raise AssertionError(f"nothing is mapped at {address:#x}")
    return found


def status(name, pid="self"):
    """A line of /proc/PID/status."""
    for line in Path(f"/proc/{pid}/status").read_text(errors="replace").splitlines():
        if line.startswith(name + ":"):
            return line.split(":", 1)[1].strip()
    raise AssertionError(f"no {name} in status")


def state(pid):
    """The state letter of a task: R, S, T, Z …"""
    return status("State", pid)[0]


def eventually(condition, what="the condition holds", seconds=300):
    """Wait until it holds; the limit is far beyond what a loaded machine needs, and beyond the harness's patience."""
    begun, told = time.monotonic(), False
    while not condition():
        waited = time.monotonic() - begun
        assert waited < seconds, f"never: {what}"
        if waited > 20 and not told and (DIR / "go").exists():  # else the harness's message would not say for what
            told = True
            print(f"{os.getpid()} still waits: {what}", file=sys.stderr, flush=True)
        time.sleep(0.01)


def asleep(*pids):
    """Wait until each of these children sleeps, in the call that it was started for or on its way there."""
    for pid in pids:
        eventually(lambda pid=pid: state(pid) == "S", f"{pid} sleeps")


def child(function, *args):
    """Fork; the child runs the function and ends with what it returns."""
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            code = function(*args) or 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return pid


def forever():
    while True:
        time.sleep(1000)


def read_whole(fd, size):
    """So many bytes of a pipe or a terminal, which may give what was written as one in pieces."""
    data = b""
    while len(data) < size:
        assert select.select([fd], [], [], 30)[0], f"no more than {data!r}"
        piece = os.read(fd, size - len(data))
        assert piece, f"ended after {data!r}"
        data += piece
    return data


def exit_code(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def publish(name, text):
    """A file of the protocol, there whole or not at all."""
    temporary = DIR / f"{name}.{os.getpid()}.part"
    temporary.write_text(text)
    temporary.rename(DIR / name)


def tick(count):
    """Say how often the target has changed, in a file that stays, for a snapshot may find it open."""
    text = f"{count:12}"
    try:
        with (DIR / "tick").open("r+") as file:
            file.write(text)
    except FileNotFoundError:
        publish("tick", text)


def wait_for_go():
    """For the children of a target: sleep until the harness says go."""
    while not (DIR / "go").exists():
        time.sleep(0.02)


def outline():
    """What must not change in any target, whatever it is about."""
    files = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            mode = os.stat(int(name)).st_mode
            files[int(name)] = stat.S_IFMT(mode), os.get_inheritable(int(name))
        except OSError as error:
            if error.errno != errno.EBADF:  # the descriptor that listed the directory
                raise
    return {
        "pid": os.getpid(),
        "sid": os.getsid(0),
        "pgid": os.getpgid(0),
        "tasks": sorted(os.listdir("/proc/self/task")),
        "files": files,
        "cwd": os.getcwd(),
        "mask": status("SigBlk"),
        "caught": status("SigCgt"),
    }


def checkpoint(step=None, same=True):
    """Be checkpointed. `step(n)` is called over and over, once at least; `same=False` waives the outline."""
    before = outline() if same else None
    count = 0
    if step:  # before it is ready: the harness waits for ticks only where there has been one
        step(count)
        tick(count := 1)
    publish("ready", str(os.getpid()))
    while not (DIR / "go").exists():
        if step:
            step(count)
            count += 1
            tick(count)
        time.sleep(0.02)
    if before:
        after = outline()
        for name in before:
            assert before[name] == after[name], f"{name}: was {before[name]}, is {after[name]}"
    return (DIR / "go").read_text() == "tamper"


def run(target):
    """Run the target's function and write the verdict."""
    verdict = "PASS"
    try:
        target()
    except Skip as skip:
        verdict = f"SKIP: {skip}"
    except BaseException as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        verdict = f"FAIL: {type(error).__name__}: {error} at {Path(where.filename).name}:{where.lineno}: {where.line}"
        traceback.print_exc()
    publish("verdict", verdict)
    sys.stderr.flush()
    os._exit(verdict.startswith("FAIL"))
