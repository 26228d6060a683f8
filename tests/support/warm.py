"""A process that has ckpt imported and forks for each command: its own process as ever, without the second of imports.

Each line of stdin is a JSON object with the arguments and the files for stdout and stderr; the answer is the
command's wait status. With `kill_after` it is killed after so many seconds, with `die_at` before that call (see
faults.py; `calls` is a file for the names of the calls that a command made to its end). `CKPT_TARGET_COLD=1` makes the
harness start `python -m ckpt` instead.
"""

import json
import os
import signal
import sys
import time
import traceback


def command(order: dict[str, object]) -> int:
    out = os.open(str(order["stdout"]), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    error = os.open(str(order["stderr"]), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    null = os.open(os.devnull, os.O_RDONLY)
    for fd, number in ((null, 0), (out, 1), (error, 2)):
        os.dup2(fd, number)
        os.close(fd)
    from ckpt.cli.main import main
    from tests.support import faults

    calls = faults.install(int(str(order["die_at"]))) if "die_at" in order else None
    try:
        code = main([str(argument) for argument in order["arguments"]])  # type: ignore[attr-defined]
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    if calls is not None and "calls" in order:
        with open(str(order["calls"]), "w") as file:
            file.write("\n".join(calls()))
    return code


def serve() -> None:
    import ckpt.chain
    import ckpt.cli.app
    import ckpt.engine.rebuild
    import ckpt.engine.restore
    import ckpt.engine.rounds  # noqa: F401

    answers = os.fdopen(os.dup(1), "w", buffering=1)
    orders = os.dup(0)
    pending = b""
    while True:
        while b"\n" not in pending:
            data = os.read(orders, 65536)
            if not data:
                return
            pending += data
        line, _, pending = pending.partition(b"\n")
        order = json.loads(line)
        pid = os.fork()
        if pid == 0:
            os.close(orders)
            os.close(answers.fileno())
            os._exit(command(order) & 0xFF)
        if "kill_after" in order:
            time.sleep(order["kill_after"])
            os.kill(pid, signal.SIGKILL)
        answers.write(f"{os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])}\n")


if __name__ == "__main__":
    serve()
