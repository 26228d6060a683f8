"""Terminals: pseudoterminals rebuilt in the test process, controlling terminals set in a real frozen task."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import os
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ckpt.errors import RestoreError
from ckpt.records.tty import PtyRecord
from ckpt.state.context import RestoreContext
from ckpt.state.files import tty
from ckpt.state.files.restore import install_table, make_channel, open_files
from ckpt.state.files.tty import finish_terminals
from tests.integration.files_roundtrip import Skeleton
from tests.support.sockets import MemoryImage, collect, restored, target

pytestmark = pytest.mark.root

PTY = """
import fcntl, os, pty, struct, sys, termios, tty
master, slave = os.openpty(); os.dup2(master, 100); os.dup2(slave, 101); os.close(master); os.close(slave)
master, slave = 100, 101
name = os.ttyname(slave)
"""


def test_a_pseudoterminal_keeps_index_modes_and_size() -> None:
    source = """
tty.setraw(slave); os.chmod(name, 0o620)
fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 101, 0, 0))
fcntl.ioctl(master, termios.TIOCPKT, struct.pack("i", 1))
os.dup2(os.open(name, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK), 102)
"""
    with target(PTY + source) as child:
        name = os.readlink(f"/proc/{child.pid}/fd/101")
        attributes = _attributes(name)
        context, tables = collect(child.pid)
    assert not context.refusals, [str(r) for r in context.refusals]
    with restored(context, tables) as files:
        assert os.ttyname(files[101]) == os.ttyname(files[102]) == name
        assert termios.tcgetattr(files[101]) == attributes
        assert os.get_terminal_size(files[101]) == (101, 33)
        assert os.stat(name).st_mode & 0o777 == 0o620
        os.write(files[101], b"out")
        assert os.read(files[100], 100) == b"\0out"  # packet mode
        os.write(files[100], b"in")
        assert os.read(files[101], 100) == b"in"
        assert not os.get_blocking(files[102])
        assert os.get_blocking(files[101])


def _attributes(name: str) -> list[object]:
    fd = os.open(name, os.O_RDWR | os.O_NOCTTY)
    try:
        return termios.tcgetattr(fd)
    finally:
        os.close(fd)


def test_locked_and_hung_up_terminals() -> None:
    source = """
other, hung = os.openpty(); os.close(other); os.dup2(hung, 110); os.close(hung)
os.dup2(os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY), 111)
"""
    with target(PTY + source) as child:
        context, tables = collect(child.pid)
    assert not context.refusals, [str(r) for r in context.refusals]
    with restored(context, tables) as files:
        assert os.read(files[110], 10) == b""
        with pytest.raises(OSError):
            os.write(files[110], b"x")
        index = struct.unpack("i", fcntl.ioctl(files[111], 0x80045430, b"\0" * 4))[0]  # TIOCGPTN
        with pytest.raises(OSError):  # never unlocked
            os.open(f"/dev/pts/{index}", os.O_RDWR | os.O_NOCTTY)


def test_the_controlling_terminal_of_a_session() -> None:
    source = """
reader, writer = os.pipe()
if os.fork() == 0:
    os.setsid(); fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    os.write(writer, b"x")
    os.kill(os.getpid(), 19)
os.read(reader, 1); os.close(reader); os.close(writer)
"""
    with target(PTY + source) as child:
        (leader,) = map(int, Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().split())
        _wait_stopped(leader)
        try:
            context, tables = collect(child.pid, leader)
        finally:
            os.kill(leader, signal.SIGKILL)
    assert not context.refusals, [str(r) for r in context.refusals]
    context.stack.close()
    (pty,) = [record for record in context.records if isinstance(record, PtyRecord)]
    assert pty.sid == pty.pgrp == leader
    # A forked process that runs system calls for the test stands for the session leader.
    made = RestoreContext(MemoryImage([]), frozenset())  # type: ignore[arg-type]
    with made.stack:
        held = [record for record in context.records if not isinstance(record, PtyRecord)]
        made.view.all += [*held, *tables]  # type: ignore[attr-defined]
        channel = make_channel(made)
        task = Skeleton()
        try:
            task.syscall(112)  # setsid
            pty = dataclasses.replace(pty, sid=task.pid, pgrp=task.pid)
            made.view.all.append(pty)  # type: ignore[attr-defined]
            made.pids = frozenset({task.pid})
            made.acting = lambda pid: contextlib.nullcontext({task.pid: task}[pid])
            open_files(made)
            install_table(made, task, tables[0], channel)
            finish_terminals(made, lambda pid: {task.pid: task}[pid])
            fields = Path(f"/proc/{task.pid}/stat").read_text().rsplit(")", 1)[1].split()
            assert int(fields[4]) == os.makedev(136, pty.index)
            assert int(fields[5]) == task.pid
        finally:
            task.close()


def _wait_stopped(pid: int) -> None:
    deadline = time.monotonic() + 60
    while Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "T":
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_what_waits_is_kept_and_stays_in_the_target() -> None:
    source = """
other, closed = os.openpty(); os.write(closed, b"left"); os.close(closed); os.dup2(other, 102); os.close(other)
os.write(master, b"typed\\nno end"); os.write(slave, b"out")
"""
    with target(PTY + source) as child:
        for _ in range(2):  # a first look changes nothing
            context, tables = collect(child.pid)
            assert not context.refusals, [str(r) for r in context.refusals]
            pty = next(record for record in context.records if isinstance(record, PtyRecord) and record.lines)
            assert (pty.lines, pty.rest, pty.slave) == ((b"typed\n",), b"no end", "open")
    with restored(context, tables) as files:
        assert os.read(files[101], 100) == b"typed\n"
        os.write(files[100], b"\n")
        assert os.read(files[101], 100) == b"no end\n"
        assert b"out" in os.read(files[100], 100)
        assert os.read(files[102], 100) == b"left"
        with pytest.raises(OSError):
            os.read(files[102], 100)


@contextlib.contextmanager
def _on_outside_terminal() -> Iterator[int]:
    """The pid of a stopped child whose standard input is a terminal that the test holds."""
    master, slave = os.openpty()
    code = "import os; os.kill(os.getpid(), 19)"
    null = subprocess.DEVNULL
    child = subprocess.Popen([sys.executable, "-c", code], stdin=slave, stdout=null, stderr=null)
    try:
        os.waitpid(child.pid, os.WUNTRACED)
        yield child.pid
    finally:
        child.kill()
        child.wait()
        os.close(master)
        os.close(slave)


def test_the_callers_terminal_needs_shell_job() -> None:
    with _on_outside_terminal() as pid:
        context, _ = collect(pid)
        context.stack.close()
        assert [refusal.hint for refusal in context.refusals if refusal.hint and "--shell-job" in refusal.hint]
        context, tables = collect(pid, shell_job=True)
        assert not context.refusals
    with pytest.raises(RestoreError) as raised, restored(context, tables):
        pass
    assert raised.value.hint is not None and "--shell-job" in raised.value.hint


def test_the_callers_terminal_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    with _on_outside_terminal() as pid:
        context, tables = collect(pid, shell_job=True)
    master, slave = os.openpty()
    before = os.dup(0)
    try:
        os.dup2(slave, 0)
        with restored(context, tables, shell_job=True) as files:
            assert os.ttyname(files[0]) == os.ttyname(slave)
            os.write(master, b"line\n")
            assert os.read(files[0], 10) == b"line\n"
    finally:
        os.dup2(before, 0)
        for fd in (before, master, slave):
            os.close(fd)


def test_a_terminal_whose_number_is_taken_has_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tty, "_PATIENCE", 0.1)
    source = "other = os.open('/dev/ptmx', os.O_RDWR | os.O_NOCTTY); os.dup2(other, 110)\nos.write(master, b'in\\n')"
    with target(PTY + source) as child:
        context, tables = collect(child.pid)
        name = os.readlink(f"/proc/{child.pid}/fd/101")
        with restored(context, tables) as files:  # the original has the number
            assert os.ttyname(files[101]) != name
            assert os.read(files[101], 10) == b"in\n"
            assert [f"{name} is in use" in note for note in files.context.notes] == [True, False]
            assert "that terminal is " + os.ttyname(files[101]) in files.context.notes[0]
