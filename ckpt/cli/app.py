"""The commands: arguments in, output out; the engine does the work."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ckpt.cli import options as opt
from ckpt.cli import output
from ckpt.errors import UsageError

if TYPE_CHECKING:
    from ckpt.chain.directory import ImageInfo
    from ckpt.engine.progress import Progress
    from ckpt.state.context import DumpOptions

app = typer.Typer(
    name="ckpt",
    help="Incremental checkpoints of live Linux processes.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", "-V", help="Print the version.")] = False,
) -> None:
    """Incremental checkpoints of live Linux processes."""
    if version:
        from ckpt import __version__

        print(f"ckpt {__version__}")
        raise typer.Exit


def _leave(running: bool, stopped: bool) -> str:
    if running and stopped:
        raise UsageError("--leave-running and --leave-stopped exclude each other", hint="give one of them")
    return "running" if running else "stopped" if stopped else "killed"


def _options(
    tcp_established: bool, tcp_close: bool, ext_unix: bool, ext_pipe: bool, shell_job: bool, ghost_limit: int
) -> DumpOptions:
    from ckpt.state.context import DumpOptions

    if tcp_established and tcp_close:
        raise UsageError("--tcp-established and --tcp-close exclude each other", hint="give one of them")
    if ghost_limit < 0:
        raise UsageError("--ghost-limit must be 0 or more")
    return DumpOptions(tcp_established, ext_unix, shell_job, ext_pipe, ghost_limit, tcp_close)


def _report(info: ImageInfo, as_json: bool) -> None:
    if as_json:
        output.print_json(output.info_dict(info))
    else:
        output.say(output.round_line(info))


@app.command("pre-dump", epilog="Example: ckpt pre-dump -t 4121 -D /var/tmp/redis")
def pre_dump(
    pid: opt.Pid,
    directory: opt.Directory,
    tracker: opt.Tracker = "auto",
    shadow: opt.Shadow = "auto",
    timeout: opt.Timeout = 5.0,
    as_json: opt.Json = False,
    progress: opt.Shown = "auto",
) -> None:
    """One round: write the pages that changed since the last one; the tree goes on."""
    import ckpt

    with output.progress_bar(progress, "pre-dump") as shown:
        info = ckpt.pre_dump(pid, directory, tracker=tracker, shadow=shadow, timeout=timeout, progress=shown)
    _report(info, as_json)


@app.command(epilog="Example: ckpt dump -t 4121 -D /var/tmp/redis --leave-running")
def dump(
    pid: opt.Pid,
    directory: opt.Directory,
    tracker: opt.Tracker = "auto",
    shadow: opt.Shadow = "auto",
    leave_running: opt.LeaveRunning = False,
    leave_stopped: opt.LeaveStopped = False,
    snapshot: opt.Snapshot = "auto",
    tcp_established: opt.TcpEstablished = False,
    tcp_close: opt.TcpClose = False,
    ext_unix: opt.ExtUnix = False,
    ext_pipe: opt.ExtPipe = False,
    shell_job: opt.ShellJob = False,
    ghost_limit: opt.GhostLimit = opt.GHOST_LIMIT,
    timeout: opt.Timeout = 5.0,
    as_json: opt.Json = False,
    progress: opt.Shown = "auto",
) -> None:
    """The final dump, on top of the chain in DIR or full where there is none; the tree ends by default."""
    import ckpt

    leave = _leave(leave_running, leave_stopped)
    allowed = _options(tcp_established, tcp_close, ext_unix, ext_pipe, shell_job, ghost_limit)
    with output.progress_bar(progress, "dump") as shown:
        info = ckpt.dump(
            pid, directory, tracker=tracker, shadow=shadow, leave=leave, snapshot=snapshot, options=allowed,
            timeout=timeout, progress=shown,
        )  # fmt: skip
    _report(info, as_json)


@app.command(epilog="Example: ckpt precopy -t 4121 -D /var/tmp/redis --max-rounds 5 --downtime-limit 100")
def precopy(
    pid: opt.Pid,
    directory: opt.Directory,
    tracker: opt.Tracker = "auto",
    shadow: opt.Shadow = "auto",
    max_rounds: Annotated[int, typer.Option(metavar="N", help="At most this many pre-dumps.")] = 8,
    downtime_limit: Annotated[float, typer.Option(metavar="MS", help="Stop when a round would take no longer.")] = 300,
    bandwidth: Annotated[float, typer.Option(metavar="MB/S", help="Of the link; 0: as measured.")] = 0,
    leave_running: opt.LeaveRunning = False,
    leave_stopped: opt.LeaveStopped = False,
    snapshot: opt.Snapshot = "auto",
    tcp_established: opt.TcpEstablished = False,
    tcp_close: opt.TcpClose = False,
    ext_unix: opt.ExtUnix = False,
    ext_pipe: opt.ExtPipe = False,
    shell_job: opt.ShellJob = False,
    ghost_limit: opt.GhostLimit = opt.GHOST_LIMIT,
    timeout: opt.Timeout = 5.0,
    as_json: opt.Json = False,
    progress: opt.Shown = "auto",
) -> None:
    """Pre-dumps until little is left to copy, then the final dump."""
    import ckpt
    from ckpt.cli.roundsview import RoundsView

    leave = _leave(leave_running, leave_stopped)
    allowed = _options(tcp_established, tcp_close, ext_unix, ext_pipe, shell_job, ghost_limit)

    view = RoundsView(progress, f"{directory}: task {pid}", quiet=as_json)
    with view.shown():
        made = ckpt.precopy(
            pid,
            directory,
            tracker=tracker,
            shadow=shadow,
            max_rounds=max_rounds,
            downtime_limit=downtime_limit / 1000,
            bandwidth=bandwidth * 1e6 if bandwidth else None,
            leave=leave,
            snapshot=snapshot,
            options=allowed,
            timeout=timeout,
            on_round=view.round,
            on_stop=view.stopped,
            progress=None if progress == "none" else view.progress,
        )
    if as_json:
        output.print_json({"images": [output.info_dict(info) for info in made]})


@app.command(epilog="Example: ckpt merge -D /var/tmp/redis -o /var/tmp/redis.ckpt")
def merge(
    source: opt.Source,
    target: Annotated[
        Path, typer.Option("-o", "--output", parser=opt.named, metavar="FILE_OR_DIR", help="The new image or chain.")
    ],
    at: Annotated[int | None, typer.Option(metavar="N", help="Merge up to this round.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an image that is there.")] = False,
    as_json: opt.Json = False,
    progress: opt.Shown = "auto",
) -> None:
    """Flatten a chain into one full image: a new file, verified before it is published."""
    import ckpt

    with output.progress_bar(progress, "merge") as shown:
        made = ckpt.merge(source, target, at=at, force=force, progress=_bytes(shown, "merge"))
    if as_json:
        found = output.image_dict(made.header, made.statistics, made.size, made.path)
        output.print_json({**found, "images": made.images, "frames_copied": made.frames_copied})
    else:
        output.say(f"merged {made.images} images into {made.path}: {output.size_text(made.size)}")


def _bytes(shown: Progress | None, phase: str) -> Callable[[int, int], None] | None:
    return partial(shown, phase) if shown is not None else None


@app.command(epilog="Example: ckpt verify -D /var/tmp/redis")
def verify(source: opt.Source, as_json: opt.Json = False, progress: opt.Shown = "auto") -> None:
    """Read every byte of a chain or an image, and check it."""
    import ckpt
    from ckpt.errors import ImageError

    with output.progress_bar(progress, "verify") as shown:
        report = ckpt.verify(source, progress=_bytes(shown, "verify"))
    if report.problems and not as_json:
        raise ImageError("\n".join(report.problems), hint="restore from an earlier round (--at) or another copy")
    if as_json:
        output.print_json(
            {
                "ok": report.ok,
                "images": report.images,
                "frames": report.frames,
                "bytes": report.bytes,
                "problems": list(report.problems),
            }
        )
        if not report.ok:
            raise ImageError("\n".join(report.problems), hint="restore from an earlier round (--at) or another copy")
    else:
        output.say(f"{report.images} images, {report.frames} frames, {output.size_text(report.bytes)}: no error found")


@app.command(epilog="Example: ckpt show -D /var/tmp/redis --files")
def show(
    source: opt.Source,
    tasks: Annotated[bool, typer.Option("--tasks", help="The tasks and threads of the newest dump.")] = False,
    vmas: Annotated[bool, typer.Option("--vmas", help="Its mappings.")] = False,
    files: Annotated[bool, typer.Option("--files", help="Its open files.")] = False,
    as_json: opt.Json = False,
) -> None:
    """The rounds of a chain, and what is inside its newest image."""
    import ckpt
    from ckpt.cli import inside

    infos = ckpt.show(source)
    wanted = [name for name, on in (("tasks", tasks), ("vmas", vmas), ("files", files)) if on]
    if as_json:
        output.print_json({"images": [output.info_dict(info) for info in infos], **inside.as_json(source, wanted)})
        return
    title = f"{source}: task {infos[-1].header.root_pid}" if infos else str(source)
    output.say_tables([output.chain_table(infos, title), *inside.tables(source, wanted)])


@app.command(epilog="Example: ckpt restore -D /var/tmp/redis --detach --pidfile /run/redis.pid")
def restore(
    source: opt.Source,
    at: Annotated[int | None, typer.Option(metavar="N", help="From round N, which must be a dump.")] = None,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Leave the tree running and return.")] = False,
    pidfile: Annotated[
        Path | None, typer.Option(parser=opt.named, metavar="FILE", help="Write the root task's pid here.")
    ] = None,
    shell_job: opt.ShellJob = False,
    inherit_fd: opt.InheritFd = None,
    userns: opt.Userns = None,
    pidns: opt.Pidns = False,
    timens: opt.Timens = None,
    as_json: opt.Json = False,
    progress: opt.Shown = "auto",
) -> int:
    """Bring the tree back under its old pids; wait for it and pass its exit status on."""
    import ckpt

    with output.progress_bar(progress, "restore") as shown:
        restored = ckpt.restore(
            source,
            at=at,
            detach=detach,
            pidfile=pidfile,
            shell_job=shell_job,
            inherit_fds=inherit_fd or (),
            userns=userns,
            pidns=pidns,
            timens=timens,
            progress=shown,
        )
    if as_json:
        output.print_json(
            {
                "pid": restored.pid,
                "pids": list(restored.pids),
                "round": restored.header.round,
                "kind": restored.header.kind,
                "restore_time": restored.restore_time_us,
                "detached": detach,
                "namespaces": list(restored.namespaces),
                "outside_pid": restored.outside_pid or restored.pid,
                "notes": list(restored.notes),
            }
        )
    else:
        output.print_notes(restored.notes)
    if detach:
        if not as_json:
            outside = f" ({restored.outside_pid} from here)" if restored.outside_pid else ""
            took = output.time_text(restored.restore_time_us)
            output.say(f"task {restored.pid}{outside} runs again, restored in {took}")
        return 0
    return restored.wait()


@app.command(epilog="Example: ckpt doctor; ckpt doctor -t 4121")
def doctor(
    pid: Annotated[int | None, typer.Option("-t", "--tree", metavar="PID", help="Can this tree be dumped?")] = None,
    tcp_established: opt.TcpEstablished = False,
    tcp_close: opt.TcpClose = False,
    ext_unix: opt.ExtUnix = False,
    ext_pipe: opt.ExtPipe = False,
    shell_job: opt.ShellJob = False,
    ghost_limit: opt.GhostLimit = opt.GHOST_LIMIT,
    as_json: opt.Json = False,
) -> int:
    """What this kernel and this user can do, by real probes; with -t, what stands against a dump of a tree."""
    import ckpt
    from ckpt.errors import NotDumpable

    if pid is not None:
        allowed = _options(tcp_established, tcp_close, ext_unix, ext_pipe, shell_job, ghost_limit)
        refusals = ckpt.dumpable(pid, allowed)
        if as_json:
            fields = ("pid", "subject", "reason", "hint")
            output.print_json(
                {"dumpable": not refusals, "refusals": [{n: getattr(r, n) for n in fields} for r in refusals]}
            )
        elif refusals:
            raise NotDumpable(refusals)
        else:
            output.say(f"the tree of task {pid} can be dumped")
        return NotDumpable.exit_code if refusals else 0
    report = ckpt.doctor()
    if as_json:
        rows = [
            {n: getattr(f, n) for n in ("name", "available", "evidence", "needed_for", "remedy")}
            for f in report.features
        ]
        output.print_json({"tracker": report.tracker, "why": report.why, "user": os.getuid(), "features": rows})
        return 0
    for feature in report.features:
        mark = "yes" if feature.available else "no "
        output.say(f"{mark}  {feature.name:24} {feature.evidence}")
        if not feature.available:
            output.say(f"     {'':24} needed for {feature.needed_for}; {feature.remedy}")
    output.say(f"tracker: {report.tracker} ({report.why})")
    return 0
