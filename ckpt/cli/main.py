"""The entry point: one exit status for whatever happens, and a fast `--version`."""

from __future__ import annotations

import sys


def run() -> None:
    """Run the command line and exit."""
    if sys.argv[1:] in (["--version"], ["-V"]):
        from ckpt import __version__

        print(f"ckpt {__version__}")
        sys.exit(0)
    sys.exit(main(sys.argv[1:]))


def main(arguments: list[str]) -> int:
    """Run one command; gives the exit status. Errors are printed, for people or as JSON, and never escape."""
    import click

    from ckpt.cli.app import app
    from ckpt.cli.output import print_error
    from ckpt.errors import CkptError, UsageError

    as_json = "--json" in arguments
    try:
        result = app(args=arguments, prog_name="ckpt", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except (KeyboardInterrupt, click.exceptions.Abort):
        print("interrupted; everything was put back", file=sys.stderr)
        return 130
    except click.exceptions.UsageError as error:
        hint = f"see: {error.ctx.command_path} --help" if error.ctx is not None else "see: ckpt --help"
        print_error(UsageError(error.format_message(), hint=hint), as_json)
        return UsageError.exit_code
    except CkptError as error:
        print_error(error, as_json)
        return error.exit_code
    except BrokenPipeError:
        sys.stdout = None
        return 128 + 13
