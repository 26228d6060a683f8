"""A task whose state differs from a fresh one's: each argument names a kind to set; then it says "ready" and waits.

The first argument names a file in which "ready" appears. The task waits in pause().
"""

from __future__ import annotations

import ctypes
import mmap
import os
import resource
import signal
import struct
import sys
import threading

libc = ctypes.CDLL(None, use_errno=True)
KEEP = []


def prctl(option: int, *args: int) -> None:
    if libc.prctl(option, *[ctypes.c_ulong(a) for a in (*args, 0, 0, 0, 0)[:4]]) < 0:
        raise OSError(ctypes.get_errno(), f"prctl {option}")


def call(nr: int, *args: object) -> int:
    converted = [ctypes.c_long(a) if isinstance(a, int) else a for a in args]
    result = libc.syscall(ctypes.c_long(nr), *converted)
    if result < 0:
        raise OSError(ctypes.get_errno(), f"syscall {nr}")
    return result


def name(text: bytes) -> None:
    buffer = ctypes.create_string_buffer(text)
    prctl(15, ctypes.addressof(buffer))


def signals() -> None:
    signal.signal(signal.SIGUSR1, lambda *_: None)
    signal.signal(signal.SIGUSR2, lambda *_: None)
    signal.siginterrupt(signal.SIGUSR2, False)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTRAP, signal.SIG_IGN)
    no_cld_wait = struct.pack("<QQQQ", 0, 2, 0, 0)
    call(13, int(signal.SIGCHLD), ctypes.create_string_buffer(no_cld_wait), 0, 8)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1, signal.SIGRTMIN, signal.SIGRTMIN + 1])
    os.kill(os.getpid(), signal.SIGUSR1)
    for value in (7, 8, 9):
        libc.sigqueue(os.getpid(), int(signal.SIGRTMIN), ctypes.c_void_p(value))
    call(234, os.getpid(), threading.get_native_id(), int(signal.SIGRTMIN) + 1)
    area = mmap.mmap(-1, 65536)
    KEEP.append(area)
    address = ctypes.addressof(ctypes.c_char.from_buffer(area))
    call(131, ctypes.create_string_buffer(struct.pack("<Qi4xQ", address, 0, 65536)), 0)


def timers() -> None:
    signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, 5000, 77)
    signal.setitimer(signal.ITIMER_PROF, 6000, 0)
    for number in range(5):
        event = struct.pack("<Qiii44x", 0xABC0 + number, signal.SIGRTMIN + number, number % 2, 0)
        if number == 4:  # SIGEV_THREAD_ID
            event = struct.pack("<Qiii44x", 5, signal.SIGRTMIN, 4, threading.get_native_id())
        made = ctypes.c_int()
        call(222, number % 2, ctypes.create_string_buffer(event), ctypes.byref(made))
        if number != 2:  # 2 stays disarmed
            spec = struct.pack("<qqqq", 3, 5, 4000 + number, 6)
            call(223, made.value, 0, ctypes.create_string_buffer(spec), 0)
        if number == 1:
            call(226, 0)


def sched() -> None:
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    os.setpriority(os.PRIO_PROCESS, 0, 7)
    os.sched_setaffinity(0, {0})
    call(251, 1, 0, 2 << 13 | 6)
    prctl(29, 123456)


def realtime() -> None:
    os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(3))


def limits() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (150, 200))
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (4096, 65536))
    resource.setrlimit(resource.RLIMIT_STACK, (4 << 20, resource.getrlimit(resource.RLIMIT_STACK)[1]))


def fs() -> None:
    os.mkdir(sys.argv[1] + ".dir")
    os.chdir(sys.argv[1] + ".dir")
    os.umask(0o057)


def chroot() -> None:
    os.mkdir(sys.argv[1] + ".dir")
    os.chdir("/proc")
    os.chroot(sys.argv[1] + ".dir")


def attributes() -> None:
    libc.personality(0x0040000)
    prctl(36, 1)
    with open("/proc/self/oom_score_adj", "w") as file:
        file.write("321")
    with open("/proc/self/coredump_filter", "w") as file:
        file.write("0x71")


def mdwe() -> None:
    prctl(65, 1)


def prctls() -> None:
    name(b"odd \xff name")
    prctl(1, 12)
    prctl(33, 1, 1)


def tsc() -> None:
    prctl(26, 2)


def ids() -> None:
    os.setgroups([7, 8, 9])
    prctl(28, 1 << 2 | 1)  # SECBIT_NO_SETUID_FIXUP, SECBIT_NOROOT
    os.setresgid(101, 102, 103)
    os.setresuid(201, 202, 203)
    libc.setfsuid(203)
    prctl(24, 22)  # drop CAP_SYS_BOOT from the bounding set
    wanted = 1 << 0 | 1 << 5 | 1 << 10
    header = struct.pack("<Ii", 0x20080522, 0)
    data = struct.pack("<6I", 1 << 5, wanted, 1 << 10, 0, 0, 0)
    call(126, ctypes.create_string_buffer(header), ctypes.create_string_buffer(data))
    prctl(47, 2, 10)  # ambient CAP_NET_BIND_SERVICE
    prctl(38, 1)


def user() -> None:
    os.setgroups([])
    os.setresgid(12345, 12345, 12345)
    os.setresuid(12345, 12345, 12345)


def seccomp() -> None:
    for errno, number in ((95, 999), (1, 998)):
        program = struct.pack("<HBBI", 0x20, 0, 0, 0)  # load the number
        program += struct.pack("<HBBI", 0x15, 0, 1, number)
        program += struct.pack("<HBBI", 0x06, 0, 0, 0x50000 | errno)
        program += struct.pack("<HBBI", 0x06, 0, 0, 0x7FFF0000)
        buffer = ctypes.create_string_buffer(program, len(program))
        fprog = ctypes.create_string_buffer(struct.pack("<H6xQ", 4, ctypes.addressof(buffer)))
        call(317, 1, 2 if errno == 1 else 0, fprog)


def more_threads() -> None:
    for number in range(2):
        begun = threading.Event()

        def run(number: int = number, begun: threading.Event = begun) -> None:
            name(b"worker %d" % number)
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1 if number else signal.SIGUSR2])
            begun.set()
            threading.Event().wait()

        threading.Thread(target=run, daemon=True).start()
        begun.wait()


def strict() -> None:
    """Waits in read(), for pause() is not allowed."""
    here, _there = os.pipe()
    read = ctypes.PyDLL(None).read
    buffer = ctypes.create_string_buffer(8)
    ready = os.open(sys.argv[1], os.O_WRONLY)
    os.write(ready, b"ready")
    prctl(22, 1)
    read(here, buffer, 1)


def own_ids() -> None:
    """A thread with other ids than the first: the raw calls, which glibc does not pass on to all threads."""
    begun = threading.Event()

    def run() -> None:
        call(117, 33, 33, 33)
        prctl(38, 1)
        begun.set()
        threading.Event().wait()

    threading.Thread(target=run, daemon=True).start()
    begun.wait()


def main() -> None:
    ready = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT)  # opened before privileges and root change
    pause = ctypes.PyDLL(None).pause
    for kind in sys.argv[2:]:
        globals()[kind]()
    os.write(ready, b"ready")
    while True:
        pause()


main()
