"""What waits to be read in pseudoterminals: taken out, and put back as it was.

A terminal has no peek: what is looked at is taken. `peek` therefore lets a process of its own do both, so that the
end of ckpt in between costs the target nothing. A line that is not complete can only be read in non-canonical mode.
"""

from __future__ import annotations

import errno
import marshal
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path

from ckpt.errors import KernelError
from ckpt.kernel import ttys
from ckpt.kernel import uapi_tty as t

_ROOM = 1 << 17
# How much a queue holds depends on the size of the writes that fill it: drivers/tty/tty_buffer.c takes a buffer of the
# size of the write (twice that fits) while those in use are 8192 bytes or fewer, the last one of at most 1792.
_CHUNKS = (1024, 1022, 512)
_LAST_CHUNK = 1792
_BUFFERS = 2 * 8192
_LINE_DISCIPLINE = 4096  # N_TTY_BUF_SIZE
_DEADLINE = 10  # seconds
_PATIENCE = 60_000  # milliseconds for a reader to make room; it holds the terminal as long

RUNNING, BY_CHARACTER, BY_CALL = range(3)  # how output was stopped: ^S, tcflow(TCOOFF)


@dataclass(frozen=True, slots=True)
class Queues:
    """The queues of one pseudoterminal."""

    output: bytes = b""  # written to the slave, not read from the master
    status: int = 0  # TIOCPKT_* that the master has not heard of
    lines: tuple[bytes, ...] = ()  # typed at the master, one read of the slave each; without an end: ended by EOF
    rest: bytes = b""  # the line that is not complete; in non-canonical mode everything
    stopped: int = RUNNING


def peek(masters: Sequence[int]) -> list[Queues]:
    """The queues of pseudoterminals whose slave is or was open, in the order of their master descriptors."""
    if not masters:
        return []
    root = str(Path(__file__).parents[2])
    code = f"import sys; sys.path[:0] = {[root]!r}; from ckpt.kernel.tty_queue import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-E", "-S", "-c", code, *map(str, masters)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pass_fds=masters,
        cwd="/",
        start_new_session=True,  # no signal of our terminal reaches it
    )
    try:
        answer, errors = process.communicate(timeout=_DEADLINE)
    except subprocess.TimeoutExpired:
        # Something did not go back into its queue: the process writes it when the reader has made room.
        raise KernelError("the queues of a terminal cannot be read: they are overfull", errno=errno.EAGAIN) from None
    if process.returncode:
        reason = errors.decode(errors="replace").strip().splitlines()[-1:]
        raise KernelError(f"the queues of a terminal cannot be read: {' '.join(reason)}")
    return [Queues(*fields) for fields in marshal.loads(answer)]


def main() -> None:
    """The process of `peek`; its arguments are the masters' descriptors."""
    found = []
    for master in map(int, sys.argv[1:]):
        with slave_of(master) as slave:
            queues = take(master, slave)
            put(master, slave, queues, patient=True)
            found.append(astuple(queues))
    sys.stdout.buffer.write(marshal.dumps(found))


@contextmanager
def slave_of(master: int) -> Iterator[int]:
    """A descriptor of the slave for the moment, also of a locked one; its modes can be changed."""
    locked = ttys.get_int(master, t.TIOCGPTLCK)
    if locked:
        ttys.set_int(master, t.TIOCSPTLCK, 0)
    try:
        slave = ttys.open_slave(master, os.O_RDWR | os.O_NONBLOCK)
        fixed = ttys.fixed_modes(slave)
        try:
            if fixed:
                ttys.set_bytes(slave, t.TIOCSLCKTRMIOS, bytes(t.TERMIOS_SIZE))
            yield slave
        finally:
            if fixed:
                ttys.set_bytes(slave, t.TIOCSLCKTRMIOS, fixed)
            os.close(slave)
    finally:
        if locked:
            ttys.set_int(master, t.TIOCSPTLCK, locked)


def hung_up(master: int) -> bool:
    """Whether every slave was closed after it had been open."""
    return bool(_events(master) & select.POLLHUP)


def idle(master: int, slave: int) -> bool:
    """Whether nothing can be queued, as far as a look from outside tells: never in canonical mode."""
    return not (
        _Termios(slave).lflag & t.ICANON
        or ttys.get_int(master, t.TIOCGPKT)
        or _events(master) & select.POLLIN
        or not _events(slave) & select.POLLOUT
        or ttys.get_int(slave, t.FIONREAD)
    )


def take(master: int, slave: int) -> Queues:
    """Everything that is queued. Modes and the packet mode stay as they are; `put` undoes it."""
    termios = _Termios(slave)
    heard = _take_status(master) if termios.lflag & t.EXTPROC else 0
    # Under its own modes first: an empty read brings what is still on its way through the line discipline.
    reads = list(_reads(slave, canonical=termios.by_lines))
    lines, rest = (tuple(reads), b"") if termios.by_lines else ((), b"".join(reads))
    with termios.changed(iflag=termios.iflag & t.IXON, lflag=0, characters={t.VMIN: 1, t.VTIME: 0}):
        rest += b"".join(_reads(slave, canonical=False))
    # After the input, which may have been echoed just now. A write, of nothing too, brings the echo of what was typed
    # while the output was stopped.
    os.write(slave, b"")
    output, status = _take_output(master)
    if termios.lflag & t.EXTPROC:  # the master is told of every change of the modes, of ours too
        status = status & ~t.TIOCPKT_IOCTL | heard
    stopped = _start(termios, master, slave)
    if stopped != RUNNING:
        os.write(slave, b"")
        output += _take_output(master)[0]
    return Queues(output, status, lines, rest, stopped)


def put(master: int, slave: int, queues: Queues, *, patient: bool = False) -> None:
    """Fill empty queues. The slave has its final modes, and the master its packet mode.

    `patient`: rather wait for a reader than raise KernelError when something does not fit.
    """
    termios = _Termios(slave)
    _put_status(termios, slave, queues.status)
    if queues.output:
        # Without IXON, a stop by ^S ends.
        with termios.changed(iflag=0 if queues.stopped == BY_CHARACTER else termios.iflag & t.IXON, oflag=0):
            _fill(slave, master, queues.output, patient)
    if queues.lines or queues.rest:
        _put_input(termios, master, slave, queues, patient)
    _stop(termios, master, slave, queues.stopped)
    if not queues.status and ttys.get_int(master, t.TIOCGPKT):  # what was done here is no news for the master
        ttys.set_int(master, t.TIOCPKT, 0)
        ttys.set_int(master, t.TIOCPKT, 1)


def _events(fd: int) -> int:
    poller = select.poll()
    poller.register(fd, select.POLLIN | select.POLLOUT | select.POLLPRI)
    return next((event for _fd, event in poller.poll(0)), 0)


def _reads(slave: int, *, canonical: bool) -> Iterator[bytes]:
    """What reads of the slave give one by one, until nothing is there. An empty line is an end of file."""
    while True:
        try:
            data = os.read(slave, _ROOM)
        except BlockingIOError:
            return
        if not data and not canonical:  # VMIN is 0
            return
        yield data


def _take_output(master: int) -> tuple[bytes, int]:
    packet = ttys.get_int(master, t.TIOCGPKT)
    output, status = b"", 0
    while _events(master) & select.POLLIN:
        data = os.read(master, _ROOM)
        if packet and data[:1] != b"\0":
            status |= data[0] if data else 0
        else:
            output += data[1:] if packet else data
    return output, status


def _take_status(master: int) -> int:
    """What the master has not heard yet; what was written stays."""
    if not ttys.get_int(master, t.TIOCGPKT) or not _events(master) & select.POLLPRI:
        return 0
    return os.read(master, 1)[0]


def _put_status(termios: _Termios, slave: int, status: int) -> None:
    """Make the master hear again what it has not heard; the queues are empty, so that nothing is lost."""
    if status & t.TIOCPKT_FLUSHREAD:
        ttys.control(slave, t.TCFLSH, t.TCIFLUSH)
    if status & t.TIOCPKT_FLUSHWRITE:
        ttys.control(slave, t.TCFLSH, t.TCOFLUSH)
    if status & (t.TIOCPKT_DOSTOP | t.TIOCPKT_NOSTOP):
        with termios.changed(iflag=termios.iflag ^ t.IXON):
            pass
    if status & t.TIOCPKT_IOCTL:
        with termios.changed():
            pass


def _put_input(termios: _Termios, master: int, slave: int, queues: Queues, patient: bool) -> None:
    """Write at the master with a line discipline that changes nothing and knows the end of file, and how to quote."""
    every = b"".join(queues.lines) + queues.rest
    end_of_file, quote = ([byte for byte in range(1, 256) if byte not in every and byte != 10] + [4, 22])[:2]
    characters = dict.fromkeys(range(t.NCCS), 0)  # _POSIX_VDISABLE
    characters[t.VEOF] = end_of_file
    ending = (t.VEOL, t.VEOL2) if termios.lflag & t.IEXTEN else (t.VEOL,)
    ends = {b"\n", *(bytes([termios.characters[n]]) for n in ending if termios.characters[n])}
    for number in (*ending, t.VSTART, t.VSTOP):
        characters[number] = termios.characters[number]
    canonical = termios.lflag & (t.ICANON | t.IEXTEN | t.EXTPROC)
    inner = ends | {bytes([end_of_file]), bytes([quote])}
    text = b""
    for line in queues.lines:
        inside, end = (line[:-1], line[-1:]) if line[-1:] in ends else (line, bytes([end_of_file]))
        text += _quoted(inside, inner, quote) + end
    text += _quoted(queues.rest, inner, quote) if termios.by_lines else queues.rest
    if termios.by_lines and bytes([quote]) in text:
        characters[t.VLNEXT] = quote
        canonical |= t.IEXTEN
    # IXON stays if it can: without it stopped output goes on, and in packet mode the master hears of the change.
    special = {termios.characters[t.VSTART], termios.characters[t.VSTOP]} & set(every)
    flow = 0 if special else termios.iflag & t.IXON
    with termios.changed(iflag=flow, oflag=0, lflag=canonical, characters=characters):
        # What one write brings goes through the line discipline at once. The last one begins where FIONREAD can tell
        # that it is through: at the end of a line that is not empty.
        last = len(text)
        if termios.by_lines and any(queues.lines) and len(text) < _LINE_DISCIPLINE:
            empty = next(n for n, line in enumerate(reversed(queues.lines)) if line)
            begin = len(text) - len(_quoted(queues.rest, inner, quote)) - empty - 1
            last = begin if len(text) - begin <= _LAST_CHUNK else last
        _fill(master, slave, text[:last], patient)
        if last < len(text):
            os.write(master, text[last:])
        if len(text) < _LINE_DISCIPLINE:
            wanted = sum(map(len, queues.lines)) + (0 if termios.by_lines else len(queues.rest))
            _until(lambda: ttys.get_int(slave, t.FIONREAD) >= wanted)
        _events(slave)  # where nothing can be read yet, a poll waits until all has come through


def _until(arrived: Callable[[], bool]) -> None:
    """Wait for the kernel's worker, which a busy machine keeps waiting; not for ever, should somebody else read."""
    end = time.monotonic() + _DEADLINE / 2
    while not arrived() and time.monotonic() < end:
        time.sleep(0.0005)


def _quoted(text: bytes, special: set[bytes], quote: int) -> bytes:
    """The inside of a line: what would end it was typed after a ^V (VLNEXT)."""
    return b"".join(bytes([quote, byte]) if bytes([byte]) in special else bytes([byte]) for byte in text)


def _start(termios: _Termios, master: int, slave: int) -> int:
    """How the output is stopped; that is undone."""
    if _events(slave) & select.POLLOUT:
        return RUNNING
    ttys.control(slave, t.TCXONC, t.TCOON)
    if _events(slave) & select.POLLOUT:
        return BY_CALL
    _type(termios, master, slave, t.VSTART, 17)
    return BY_CHARACTER


def _stop(termios: _Termios, master: int, slave: int, how: int) -> None:
    if how == BY_CALL:
        ttys.control(slave, t.TCXONC, t.TCOOFF)
    elif how == BY_CHARACTER:
        _type(termios, master, slave, t.VSTOP, 19)


def _type(termios: _Termios, master: int, slave: int, number: int, character: int) -> None:
    """Type one that stops or starts the output."""
    characters = {n: character if n == number else termios.characters[n] for n in (t.VSTART, t.VSTOP)}
    with termios.changed(iflag=t.IXON, lflag=termios.lflag & t.ICANON, characters=characters):
        os.write(master, bytes([character]))
        _events(slave)  # a poll waits until it has come through the line discipline, where no line can be read
        if number == t.VSTOP:
            _until(lambda: not _events(slave) & select.POLLOUT)


def _fill(writer: int, reader: int, data: bytes, patient: bool) -> None:
    """Write all of it, though nobody reads; `reader`'s queue is empty."""
    blocking = os.get_blocking(writer)
    os.set_blocking(writer, False)
    try:
        for chunk in _CHUNKS:
            if _write(writer, data, chunk):
                return
            ttys.control(reader, t.TCFLSH, t.TCIFLUSH)
    finally:
        os.set_blocking(writer, blocking)  # before the task may run again
    if not patient or not _write_patiently(writer, data):
        raise KernelError(f"{len(data)} bytes do not fit into a terminal's queue", errno=errno.EAGAIN)


def _write(fd: int, data: bytes, chunk: int) -> bool:
    """Write without blocking; whether all was taken, though nobody made room."""
    left = data
    while left:
        last = len(data) - len(left) >= _LINE_DISCIPLINE + _BUFFERS
        try:  # poll shows no room where there is some for one write more
            left = left[os.write(fd, left[: _LAST_CHUNK if last else chunk]) :]
        except BlockingIOError:
            if not _has_room(fd, 200):
                return False
        if len(data) > _LINE_DISCIPLINE:
            time.sleep(0.0002)  # the line discipline takes its part first, or less fits behind it
    return True


def _write_patiently(fd: int, data: bytes) -> bool:
    """Write as a reader makes room; whether all was taken."""
    while data:
        if not _has_room(fd, _PATIENCE):
            return False
        data = data[os.write(fd, data[: _CHUNKS[0]]) :]
    return True


def _has_room(fd: int, timeout: int) -> bool:
    """Whether poll shows room, within so many milliseconds."""
    poller = select.poll()
    poller.register(fd, select.POLLOUT)
    return any(event & select.POLLOUT for _fd, event in poller.poll(timeout))


class _Termios:
    """The modes of a slave, and changing them for a moment without losing what is queued (TCSETS2)."""

    def __init__(self, slave: int) -> None:
        self._slave = slave
        self._raw = ttys.get_bytes(slave, t.TCGETS2, t.TERMIOS2_SIZE)
        self.iflag, self.oflag, self._cflag, self.lflag = (
            int.from_bytes(self._raw[n : n + 4], "little") for n in (0, 4, 8, 12)
        )
        self.characters = self._raw[17 : 17 + t.NCCS]

    @property
    def by_lines(self) -> bool:
        """Whether a read gives one line: with EXTPROC somebody else has made the lines."""
        return self.lflag & (t.ICANON | t.EXTPROC) == t.ICANON

    @contextmanager
    def changed(
        self,
        iflag: int | None = None,
        oflag: int | None = None,
        lflag: int | None = None,
        characters: dict[int, int] | None = None,
    ) -> Iterator[None]:
        flags = [
            old if new is None else new
            for old, new in ((self.iflag, iflag), (self.oflag, oflag), (self._cflag, None), (self.lflag, lflag))
        ]
        control = bytearray(self.characters)
        for number, value in (characters or {}).items():
            control[number] = value
        head = b"".join(flag.to_bytes(4, "little") for flag in flags)
        ttys.set_bytes(self._slave, t.TCSETS2, head + self._raw[16:17] + control + self._raw[17 + t.NCCS :])
        try:
            yield
        finally:
            ttys.set_bytes(self._slave, t.TCSETS2, self._raw)
