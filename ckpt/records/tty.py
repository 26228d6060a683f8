"""The records of terminals: a payload for each descriptor, and one record for each pseudoterminal."""

from __future__ import annotations

from ckpt.records.base import record


@record("tty")
class TtyPayload:
    """One open terminal."""

    role: str  # master | slave | hung-up | device | caller (the terminal ckpt itself is called from)
    index: int  # of the pseudoterminal; -1 for another terminal
    path: str  # as the task opened it, for messages
    termios: bytes = b""  # of the caller's terminal, or of a device; struct termios2
    pgrp: int = 0  # the foreground process group of that terminal, if it is in the tree
    sid: int = 0  # the session that a device controls, if it is in the tree


@record("pty")
class PtyRecord:
    """One pseudoterminal whose master is in the tree, or one that the tree's session leader was called from."""

    index: int
    termios: bytes  # struct termios2 of the slave side
    winsize: bytes  # struct winsize
    locked: bool
    packet: bool
    exclusive: bool
    sid: int  # the session it controls, 0 for none
    pgrp: int  # its foreground process group
    mode: int  # of /dev/pts/INDEX
    uid: int
    gid: int
    slave: str  # open | closed (it was open) | untouched
    output: bytes  # not read from the master
    status: int  # TIOCPKT_* that the master has not heard of
    lines: tuple[bytes, ...]  # input, one read of the slave each; one without an end was ended by EOF
    rest: bytes  # input behind them: an unfinished line; everything in non-canonical mode
    stopped: int  # output: 0 no, 1 by ^S, 2 by tcflow(TCOOFF)
    fixed: bytes = b""  # the modes that are locked (TIOCGLCKTRMIOS), if any; struct termios
    exclusive_master: bool = False
    relayed: bool = False  # its master was outside: ckpt has it while it waits, and copies to its own terminal
