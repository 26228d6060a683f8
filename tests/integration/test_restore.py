"""Restore end to end: a target is dumped, killed and rebuilt; /proc says the same, and the target checks itself."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ckpt.engine.restore import Restored, restore
from ckpt.engine.rounds import dump
from ckpt.kernel import uapi
from ckpt.kernel import uapi_state as us
from ckpt.records.seams import RemoteTask
from ckpt.records.state import IntervalTimer
from ckpt.state import timers
from tests.support.proc_oracle import task_facts
from tests.support.restore_targets import Target, become_subreaper, target

pytestmark = pytest.mark.root


@pytest.fixture(autouse=True)
def _subreaper() -> Iterator[None]:
    with become_subreaper():
        yield


def go_on(restored: Restored, made: Target) -> int:
    """Let the restored target check itself; its exit code."""
    os.kill(restored.pid, signal.SIGUSR1)
    code = restored.wait()
    assert "WRONG" not in made.text(), made.text()
    return code


def cycle(made: Target, **options: object) -> Restored:
    """Dump, restore, and compare what /proc says of every task before and after."""
    living = [pid for pid in made.tree() if alive(pid)]
    settle(living)
    before = {pid: task_facts(pid) for pid in living}
    dump(made.pid, made.images)
    made.gone()
    restored = restore(made.images, **options)  # type: ignore[arg-type]
    made.pids |= set(restored.pids)
    settle(list(before))
    after = {pid: task_facts(pid) for pid in before}
    for pid, facts in before.items():
        ids = facts.pop("ids"), after[pid].pop("ids")
        assert ids[0][1:] == ids[1][1:]  # type: ignore[index]
        for key, value in facts.items():
            if key.startswith("syscall") and stopped(pid):
                continue  # a call that has ended with EINTR already
            if pid == made.pid and key.startswith("thread"):
                value["PPid"] = after[pid][key]["PPid"] = None  # type: ignore[index]
            assert after[pid].get(key) == value, (pid, key)
    return restored


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def settle(pids: list[int]) -> None:
    """Until every thread waits in a call: that in which it will be frozen, or was."""
    end = time.monotonic() + 60
    files = [Path(f"/proc/{pid}/task/{tid}/syscall") for pid in pids for tid in os.listdir(f"/proc/{pid}/task")]
    while running := [file for file in files if "running" in file.read_text()]:
        assert time.monotonic() < end, running
        time.sleep(0.01)


def test_plain_program(tmp_path: Path) -> None:
    program = """
data = {i: str(i) * 3 for i in range(20000)}
f = open(sys.argv[1] + ".data", "w+"); f.write("hello"); f.flush()
os.chdir("/tmp"); os.umask(0o27)
wait()
check(data == {i: str(i) * 3 for i in range(20000)}, "data")
f.write(" world"); f.seek(0); check(f.read() == "hello world", "file")
check(os.getcwd() == "/tmp" and os.umask(0) == 0o27, "fs")
import json, decimal
check(json.dumps({"a": [1.5]}) == '{"a": [1.5]}', "import after restore")
sys.exit(42)
"""
    with target(program, tmp_path) as made:
        assert go_on(cycle(made), made) == 42


def test_every_kind_of_mapping(tmp_path: Path) -> None:
    program = """
P, ANON, PRIV, SHARED, NORES = 4096, 0x20, 2, 1, 0x4000
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]
for f in (libc.mprotect, libc.madvise, libc.mlock2, libc.mremap):
    f.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
def area(pages, prot=3, flags=PRIV | ANON, fd=-1):
    libc.mmap(None, P, 0, PRIV | ANON, -1, 0)  # keeps neighbours apart
    at = libc.mmap(None, pages * P, prot, flags, fd, 0)
    assert at not in (None, 2**64 - 1)
    return at
def fill(at, pages, salt):
    for i in range(pages):
        ctypes.memmove(at + i * P, bytes([(i * 7 + salt) % 251 + 1]) * P, P)
def right(at, pages, salt, what):
    for i in range(pages):
        check(ctypes.string_at(at + i * P, P) == bytes([(i * 7 + salt) % 251 + 1]) * P, (what, i))
none = area(8); fill(none, 8, 1); libc.mprotect(none, 8 * P, 0)
ro = area(8); fill(ro, 8, 2); libc.mprotect(ro, 8 * P, 1)
code = area(1, 7)
sparse = area(1000, 3, PRIV | ANON | NORES)
for i in range(0, 1000, 97): fill(sparse + i * P, 1, i)
advised = [area(16) for _ in range(6)]
for at, advice in zip(advised, (1, 2, 10, 14, 15, 16)):
    fill(at, 16, advice); check(libc.madvise(at, 16 * P, advice) == 0, advice)
wiped = area(4); fill(wiped, 4, 5); check(libc.madvise(wiped, 4 * P, 18) == 0, "wipe")
locked = area(4); fill(locked, 4, 3); check(libc.mlock2(locked, 4 * P, 0) == 0, "lock")
onfault = area(64); check(libc.mlock2(onfault, 64 * P, 1) == 0, "onfault")
guarded = area(8); fill(guarded, 8, 4); guards = libc.madvise(guarded + 3 * P, 2 * P, 102) == 0
path = sys.argv[1] + ".mapped"
open(path, "wb").write(b"x" * 8 * P)
fd = os.open(path, os.O_RDWR)
private = area(8, 3, PRIV, fd); fill(private + 2 * P, 1, 9); ctypes.memset(private + 5 * P, 0, P)
shared = area(8, 3, SHARED, fd); ctypes.memset(shared + 7 * P, 66, P)
memfd = os.memfd_create("mine", 2); os.ftruncate(memfd, 8 * P)
mem = area(8, 3, SHARED, memfd); fill(mem, 3, 11)
import fcntl; fcntl.fcntl(memfd, 1033, 2)
anon_shared = area(8, 3, SHARED | ANON); fill(anon_shared, 2, 12)
libc.prctl(0x53564d41, 0, ctypes.c_ulong(sparse), ctypes.c_ulong(1000 * P), b"a name")
wait()
libc.mprotect(none, 8 * P, 3); right(none, 8, 1, "none"); right(ro, 8, 2, "ro")
for i in range(1000):
    if i % 97 == 0: right(sparse + i * P, 1, i, "sparse")
    else: check(ctypes.string_at(sparse + i * P, P) == bytes(P), "hole")
for at, advice in zip(advised, (1, 2, 10, 14, 15, 16)): right(at, 16, advice, advice)
right(wiped, 4, 5, "wiped"); right(locked, 4, 3, "locked")
right(guarded, 3, 4, "before the guard")
if guards:
    r, w = os.pipe()
    n = libc.write(w, ctypes.c_void_p(guarded + 3 * P), ctypes.c_size_t(1))
    check(n == -1 and ctypes.get_errno() == 14, "guard")
check(ctypes.string_at(private, P) == b"x" * P, "file page"); right(private + 2 * P, 1, 9, "private page")
check(ctypes.string_at(private + 5 * P, P) == bytes(P), "zeroed page")
check(ctypes.string_at(shared + 7 * P, P) == b"B" * P, "shared file"); fill(shared, 1, 0)
check(os.pread(fd, 1, 0) == b"\\x01", "still shared with the file")
right(mem, 3, 11, "memfd"); fill(mem + P * 4, 1, 0); check(os.pread(memfd, 1, 4 * P) == b"\\x01", "memfd shared")
check(fcntl.fcntl(memfd, 1034) == 2, "seal")
right(anon_shared, 2, 12, "anonymous shared")
if os.fork() == 0:
    ctypes.memset(anon_shared, 77, 1); os._exit(0)
os.wait(); check(ctypes.string_at(anon_shared, 1) == b"M", "shared after fork")
sys.exit(0)
"""
    with target(program, tmp_path) as made:
        assert go_on(cycle(made), made) == 0


def test_threads_with_state_of_their_own(tmp_path: Path) -> None:
    program = """
local = threading.local(); results = []; release = threading.Event(); started = threading.Barrier(6)
def work(n):
    local.n = n
    libc.prctl(15, f"worker-{n}".encode(), 0, 0, 0)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGRTMIN + n])
    started.wait(); release.wait()
    blocked = signal.SIGRTMIN + n in signal.pthread_sigmask(signal.SIG_BLOCK, [])
    results.append((n, local.n, blocked, threading.get_native_id()))
threads = [threading.Thread(target=work, args=(n,)) for n in range(5)]
[t.start() for t in threads]; ids = [t.native_id for t in threads]; started.wait()
wait()
release.set(); [t.join() for t in threads]
check(sorted(results) == [(n, n, True, ids[n]) for n in range(5)], results)
sys.exit(5)
"""
    with target(program, tmp_path) as made:
        assert go_on(cycle(made), made) == 5


def test_tree_of_sessions_groups_zombies_and_stops(tmp_path: Path) -> None:
    program = """
libc.prctl(36, 1, 0, 0, 0)
chld = []; signal.signal(signal.SIGCHLD, lambda *_: chld.append(1))
r, w = os.pipe(); r2, w2 = os.pipe()
def child(f):
    pid = os.fork()
    if pid == 0:
        try: f()
        finally: os._exit(88)
    return pid
def sleeper(code=0):
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    os.write(w2, b"!")
    signal.sigwait([signal.SIGUSR1])
    os._exit(code)
leader = child(lambda: (os.setsid(), sleeper(1)))
group = child(lambda: (os.setpgid(0, 0), sleeper(2)))
def daemon():
    os.setsid()
    d = child(lambda: sleeper(3))
    os.write(w, d.to_bytes(4, "little")); os._exit(0)
first = child(daemon); orphan = int.from_bytes(os.read(r, 4), "little")
os.waitpid(first, 0)
def dead_group():
    os.setpgid(0, 0)
    d = child(lambda: sleeper(4))
    os.write(w, d.to_bytes(4, "little")); os._exit(0)
second = child(dead_group); member = int.from_bytes(os.read(r, 4), "little"); os.waitpid(second, 0)
zombie = child(lambda: os._exit(9)); killed = child(lambda: os.kill(os.getpid(), 15))
for z in (zombie, killed): os.waitid(os.P_PID, z, os.WEXITED | os.WNOWAIT)
stopped = child(lambda: sleeper(6))
for _ in range(5): os.read(r2, 1)
os.kill(stopped, signal.SIGSTOP)
check(os.waitpid(stopped, os.WUNTRACED)[1] == 0x137f, "stop")
ids = {p: (os.getsid(p), os.getpgid(p)) for p in (leader, group, orphan, member, stopped)}
time.sleep(0.2); heard = len(chld)
wait()
check(len(chld) == heard, "no news of the rebuilding")
check({p: (os.getsid(p), os.getpgid(p)) for p in ids} == ids, "ids")
check(os.waitpid(zombie, 0)[1] == 9 << 8 and os.waitpid(killed, 0)[1] == 15, "zombies")
check(os.waitpid(stopped, os.WNOHANG | os.WUNTRACED) == (0, 0), "the stop is old news")
check(open(f"/proc/{stopped}/stat").read().rpartition(")")[2].split()[0] == "T", "stopped")
for p in ids: os.kill(p, signal.SIGUSR1)
os.kill(stopped, signal.SIGCONT)
codes = {p: os.waitpid(p, 0)[1] >> 8 for p in ids}
check(list(codes.values()) == [1, 2, 3, 4, 6], codes)
try: os.wait(); check(False, "children left")
except ChildProcessError: pass
sys.exit(11)
"""
    with target(program, tmp_path) as made:
        assert go_on(cycle(made), made) == 11


def test_memory_and_files_shared_between_tasks(tmp_path: Path) -> None:
    program = """
area = mmap.mmap(-1, 1 << 16); f = open(sys.argv[1] + ".log", "w+b", buffering=0); r, w = os.pipe()
os.write(w, b"in flight")
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
child = os.fork()
if child == 0:
    signal.sigwait([signal.SIGUSR1])
    area[5:10] = b"child"; f.write(b"two"); os._exit(0)
f.write(b"one")
wait()
os.kill(child, signal.SIGUSR1); os.waitpid(child, 0)
check(area[5:10] == b"child", "shared memory"); f.seek(0); check(f.read() == b"onetwo", "one file position")
check(os.read(r, 99) == b"in flight", "pipe")
sys.exit(0)
"""
    with target(program, tmp_path) as made:
        assert go_on(cycle(made), made) == 0


def test_signals_timers_and_sleeps_go_on(tmp_path: Path) -> None:
    program = """
got = []
for n in (signal.SIGUSR2, signal.SIGALRM, signal.SIGTRAP): signal.signal(n, lambda n, _: got.append(n))
signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
os.kill(os.getpid(), signal.SIGUSR2); signal.setitimer(signal.ITIMER_REAL, 5000, 7)
done = []
t = threading.Thread(target=lambda: (time.sleep(6), done.append(1))); t.start()  # past the looks at it
wait()
check(got == [], got)
check(signal.getsignal(signal.SIGTERM) == signal.SIG_IGN, "SIGTERM")
value, interval = signal.getitimer(signal.ITIMER_REAL); check(4000 < value <= 5000 and interval == 7, "timer")
signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR2]); check(got == [signal.SIGUSR2], "pending")
os.kill(os.getpid(), signal.SIGTRAP); check(got[-1] == signal.SIGTRAP, "trap handler")
t.join(); check(done == [1], "sleep")
sys.exit(0)
"""
    with target(program, tmp_path) as made:
        assert go_on(cycle(made), made) == 0


def test_three_generations(tmp_path: Path) -> None:
    program = """
x = bytearray(b"generation" * 5000)
wait()
check(x == b"generation" * 5000, "x"); sys.exit(3)
"""
    with target(program, tmp_path) as made:
        restored = cycle(made)
        for number in range(2):
            made.images = tmp_path / f"again-{number}"
            dump(restored.pid, made.images)
            restored.wait()
            restored = restore(made.images)
        assert go_on(restored, made) == 3


def test_stopped_root_stays_stopped(tmp_path: Path) -> None:
    with target("wait()\nsys.exit(0)\n", tmp_path) as made:
        os.kill(made.pid, signal.SIGSTOP)
        os.waitpid(made.pid, os.WUNTRACED)
        dump(made.pid, made.images)
        made.gone()
        restored = restore(made.images)
        end = time.monotonic() + 60
        while not stopped(made.pid):
            assert time.monotonic() < end
            time.sleep(0.01)
        os.kill(made.pid, signal.SIGCONT)
        assert go_on(restored, made) == 0


def test_wait_tells_signals_and_forwards_them(tmp_path: Path) -> None:
    with target("signal.signal(15, signal.SIG_DFL)\nwait()\n", tmp_path) as made:
        restored, over = cycle(made), threading.Event()

        def send() -> None:
            while not over.wait(0.1):  # until one is passed on: the first may come before `wait` listens
                os.kill(os.getpid(), signal.SIGTERM)

        old = signal.signal(signal.SIGTERM, lambda *_: None)
        sender = threading.Thread(target=send)
        try:
            sender.start()
            assert restored.wait() == 128 + signal.SIGTERM
        finally:
            over.set()
            sender.join()
            signal.signal(signal.SIGTERM, old)


def test_pid_file(tmp_path: Path) -> None:
    with target("wait()\nsys.exit(0)\n", tmp_path) as made:
        restored = cycle(made, pidfile=tmp_path / "pid", detach=True)
        assert (tmp_path / "pid").read_text() == f"{made.pid}\n"
        assert restored.detached
        assert go_on(restored, made) == 0


ALARM = """
signal.signal(signal.SIGALRM, lambda *_: os._exit(7))
signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGALRM])
signal.setitimer(signal.ITIMER_REAL, 600)
open(sys.argv[1] + ".ready", "w").write("ready")
while True:
    signal.pause()
"""


def test_a_timer_that_goes_off_while_it_is_collected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def collected(remote: RemoteTask) -> tuple[IntervalTimer, ...]:
        if remote.pid == made.pid and not gone_off:
            gone_off.append(remote.pid)
            soon = remote.put(us.itimerval.pack(0, 0, 0, 1))
            remote.syscall(uapi.SYS_setitimer, us.ITIMERS[0], soon, 0)
            time.sleep(0.05)
        return original(remote)

    gone_off: list[int] = []
    original = timers.collect_itimers
    monkeypatch.setattr(timers, "collect_itimers", collected)
    with target(ALARM, tmp_path) as made:
        dump(made.pid, made.images)
        made.gone()
        assert gone_off
        restored = restore(made.images)
        made.pids |= set(restored.pids)
        assert restored.wait() == 7
