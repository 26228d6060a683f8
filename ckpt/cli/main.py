"""The entry point: one exit status for whatever happens, and a fast `--version`."""

from __future__ import annotations

import codecs
import errno
import io
import os
import signal
import sys

_SCARCE = ("new thread", "failed to map segment", "annot allocate memory")
_WHERE = "look at the paths that were given, and at where the output goes"


def run() -> None:
    """Run the command line and exit."""
    _complete_streams()
    if sys.argv[1:] in (["--version"], ["-V"]):
        from ckpt import __version__

        print(f"ckpt {__version__}")
        sys.exit(0)
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # numpy's library takes 40 MiB and a thread for each core
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # until a command begins there is nothing to undo
    sys.exit(main(sys.argv[1:]))


def _complete_streams() -> None:
    """A caller may have closed standard streams; what is opened instead of them must not be a file of the work."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # at the lowest free number
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w"))  # noqa: SIM115
    out = sys.stdout  # a name of any bytes, or a sign that the caller's locale lacks, must not end what is done already
    if isinstance(out, io.TextIOWrapper) and out.errors == "strict":
        out.reconfigure(errors="surrogateescape" if codecs.lookup(out.encoding).name == "utf-8" else "backslashreplace")


def _ended(status: int, as_json: bool) -> int:
    """The exit status of a command that did what it was asked to: also whether the caller heard of it."""
    from ckpt.cli.output import print_error, unsaid
    from ckpt.errors import CkptError

    if (error := unsaid()) is None:
        return status
    if isinstance(error, BrokenPipeError):  # the reader wants no more
        return status or 128 + signal.SIGPIPE
    why = f"standard output cannot be written: {error.strerror}; what was asked for is done"
    print_error(CkptError(why, hint="look where the output goes; ckpt show tells what a chain holds"), as_json)
    return status or CkptError.exit_code


def main(arguments: list[str]) -> int:
    """Run one command; gives the exit status. Errors are printed, for people or as JSON, and never escape."""
    import typer

    from ckpt.cli.app import app
    from ckpt.cli.interrupts import Interrupted, interruptible
    from ckpt.cli.output import print_error
    from ckpt.errors import CkptError, UsageError, limit_hint

    if not arguments:
        main(["--help"])
        return UsageError.exit_code
    as_json = "--json" in arguments
    # Newer typer carries a click of its own: only the names that typer itself gives are safe.
    usage_error: type[Exception] = typer.BadParameter.__bases__[0]
    try:
        with interruptible():
            result = app(args=arguments, prog_name="ckpt", standalone_mode=False)
        return _ended(result if isinstance(result, int) else 0, as_json)
    except typer.Exit as stop:
        return stop.exit_code
    except Interrupted as interrupted:
        print_error(interrupted, as_json)
        return interrupted.exit_code
    except usage_error as error:
        context = getattr(error, "ctx", None)
        hint = f"see: {context.command_path if context is not None else 'ckpt'} --help"
        print_error(UsageError(getattr(error, "format_message", error.__str__)(), hint=hint), as_json)
        return UsageError.exit_code
    except CkptError as error:
        print_error(error, as_json)
        return error.exit_code
    except OSError as error:  # a full disk under standard output, a directory that may not be looked into
        where = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
        hint = limit_hint(error.errno) or _WHERE
        print_error(CkptError(f"{where}{error.strerror or error}", hint=hint), as_json)
        return CkptError.exit_code
    except (MemoryError, RuntimeError, ImportError) as error:
        if not isinstance(error, MemoryError) and not any(words in str(error) for words in _SCARCE):
            raise
        why = str(error).strip().splitlines() or ["MemoryError"]
        print_error(
            CkptError(f"ckpt has run out of memory, or threads: {why[-1]}", hint=limit_hint(errno.ENOMEM)), as_json
        )
        return CkptError.exit_code
