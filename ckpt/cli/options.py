"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def named(text: str) -> Path:
    """The path; an empty one, as an unset variable gives, would be the working directory."""
    if not text:
        raise typer.BadParameter("the name is empty; . is the working directory")
    return Path(text)


Pid = Annotated[int, typer.Option("-t", "--tree", metavar="PID", help="The root task of the tree.")]
Directory = Annotated[
    Path, typer.Option("-D", "--images-dir", parser=named, metavar="DIR", help="The chain's directory.")
]
Source = Annotated[
    Path, typer.Option("-D", "--images-dir", parser=named, metavar="DIR", help="A chain's directory or an image.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Tracker = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="soft-dirty, write-protect, content-hash, or auto: the best that works.",
        autocompletion=lambda: ["auto", "soft-dirty", "write-protect", "content-hash"],
    ),
]
Shadow = Annotated[
    str,
    typer.Option(
        metavar="HOW", help="Store pages as differences from the parent's: where that pays (auto), image: always, off."
    ),
]
Timeout = Annotated[float, typer.Option(metavar="SECONDS", help="How long the tree may take to stand still.")]
Shown = Annotated[
    str,
    typer.Option(
        "--progress",
        metavar="MODE",
        help="auto, json (lines on stderr) or none.",
        autocompletion=lambda: ["auto", "json", "none"],
    ),
]
LeaveRunning = Annotated[bool, typer.Option("--leave-running", help="The tree goes on after the dump.")]
LeaveStopped = Annotated[bool, typer.Option("--leave-stopped", help="The tree is left stopped (SIGSTOP).")]
Snapshot = Annotated[
    str, typer.Option(metavar="HOW", help="With --leave-running: fork (copy-on-write), frozen, or auto: the quicker.")
]
TcpEstablished = Annotated[bool, typer.Option("--tcp-established", help="Dump connections to peers outside the tree.")]
TcpClose = Annotated[
    bool, typer.Option("--tcp-close", help="Restore connections to peers outside the tree as closed sockets.")
]
ExtUnix = Annotated[bool, typer.Option("--ext-unix", help="Restore Unix sockets with outside peers as disconnected.")]
ExtPipe = Annotated[bool, typer.Option("--ext-pipe", help="Dump pipes whose other end is outside the tree.")]
InheritFd = Annotated[
    list[str] | None,
    typer.Option(
        metavar="std|fd[N]:NAME",
        help="Give the tree a file of ckpt's own: std for pipes that were its stdin, stdout and stderr (implied "
        "without --detach), or descriptor N for the file called NAME, as pipe:[4711].",
    ),
]
ShellJob = Annotated[bool, typer.Option("--shell-job", help="The tree is a job on the caller's terminal.")]
GhostLimit = Annotated[int, typer.Option(metavar="BYTES", help="The largest deleted file to keep in the image.")]
Userns = Annotated[
    bool | None,
    typer.Option("--userns/--no-userns", help="In a new user and pid namespace; as needed by default."),
]
Pidns = Annotated[bool, typer.Option("--pidns", help="In a new pid namespace: the same pids, though taken here.")]
Timens = Annotated[
    bool | None,
    typer.Option("--timens/--no-timens", help="CLOCK_MONOTONIC goes on from the dump; by default after another boot."),
]
GHOST_LIMIT = 16 << 20  # as ckpt.state.context, which is not imported for --help
