"""Triggers of pressure stall information, of the system and of a cgroup; one is shared and watched by an epoll set."""

import errno
import os
import select
import time
from pathlib import Path

from target_api import Skip, checkpoint, child, eventually, exit_code, run, wait_for_go

WATCHED = b"some 1000 2000000\0"  # of 2 s, which anybody may have; an instant of waiting for a processor is enough


def trigger(path, text):
    try:
        fd = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        os.write(fd, text)
    except OSError as error:
        raise Skip(f"no triggers: {path}: {error}") from error
    return fd


def taken(fd):
    """Whether it has a trigger: there is no second one."""
    try:
        os.write(fd, WATCHED)
    except OSError as error:
        return error.errno == errno.EBUSY
    return False


def in_cgroup():
    mounts = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines() if " - cgroup2 " in line]
    for mount in mounts:
        try:
            return [trigger(f"{mount[4]}/memory.pressure", b"full 1900000 4000000\0")]
        except Skip:
            continue
    return []


def busy():
    wait_for_go()
    end = time.monotonic() + 3
    while time.monotonic() < end:
        pass


def main():
    watched = trigger("/proc/pressure/cpu", WATCHED)
    others = [trigger("/proc/pressure/memory", b"full 1900000 4000000\0"), *in_cgroup()]
    plain = os.open("/proc/pressure/memory", os.O_RDWR)
    os.read(plain, 4)
    poll, epoll = select.poll(), select.epoll()
    for fd in others:
        poll.register(fd, select.POLLPRI)
    epoll.register(watched, select.EPOLLPRI)
    children = [child(busy) for _ in range(3 * os.cpu_count())]
    if checkpoint():
        os.close(others[0])
    assert not poll.poll(0), "no trigger any more: that is always ready, with POLLERR"
    assert os.lseek(plain, 0, os.SEEK_CUR) == 4 and os.read(plain, 5) == b" avg1"
    eventually(lambda: epoll.poll(0) == [(watched, select.EPOLLPRI)], "the trigger goes off", 60)
    assert all(taken(fd) for fd in (watched, *others)) and not taken(plain)
    assert [exit_code(pid) for pid in children] == [0] * len(children)


run(main)
