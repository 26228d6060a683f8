"""Work done in other namespaces by a process of its own, whose progress, result and errors come back.

ckpt forks a first process, which enters the namespaces; its child is the one that lives in those of pids and of
time, and does the work. The first one ends at once and ckpt, a subreaper meanwhile, is the worker's parent.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
import traceback
import warnings
from collections.abc import Callable
from typing import Any, NoReturn

from ckpt.engine.init_root import InitRoot
from ckpt.engine.progress import Progress
from ckpt.errors import CkptError
from ckpt.kernel import namespaces, uapi_restore
from ckpt.kernel.adoption import adopting

Work = Callable[[Progress | None], Any]
_LENGTH = 8


def work_elsewhere(
    enter: Callable[[], None],
    work: Work,
    *,
    progress: Progress | None = None,
    seen: Callable[[int, Any], None] | None = None,
    stay: Callable[[Any], NoReturn] | None = None,
    root: InitRoot | None = None,
) -> Any:
    """Run `enter` in a process and `work` in its child; gives what `work` gave, or raises what it raised.

    `seen` gets the worker's pid and the result in ckpt, while the worker waits: if it raises, the worker is killed.
    Then the worker goes on as `stay`, else it ends. With `root` the first process starts that before the worker, as
    the init of the new pid namespace; it becomes ckpt's child, and `seen` gets its pid.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    reader, writer = os.pipe()
    held, release = os.pipe()
    with adopting():
        first = _fork()
        if not first:
            os.close(reader)
            os.close(release)
            _first(enter, work, progress is not None, stay, writer, held, root)
        os.close(writer)
        os.close(held)
        try:
            return _Listener(reader, release, first, progress, seen, stay is not None).listen()
        finally:
            os.close(reader)
            os.close(release)


def _fork() -> int:
    with warnings.catch_warnings():
        # Threads of numpy's: the child neither waits for one nor runs their code.
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


# ---------------------------------------------------------------- the processes


def _first(
    enter: Callable[[], None],
    work: Work,
    tells: bool,
    stay: Callable[[Any], NoReturn] | None,
    writer: int,
    held: int,
    root: InitRoot | None,
) -> NoReturn:
    try:
        enter()
        if root is None:
            worker = _fork()
            if worker:
                _send(writer, ("worker", worker, 0))
                os._exit(0)
        else:
            _begin(root, writer)
        if os.read(held, 1):  # ckpt is the parent now
            namespaces.die_with_parent(signal.SIGKILL)
            result = work(_telling(writer) if tells else None)
            _send(writer, ("result", result))
            if os.read(held, 1) and stay is not None:
                namespaces.die_with_parent(0)
                _send(writer, ("alone",))
                stay(result)
    except CkptError as error:
        _send(writer, ("error", type(error), error.args, vars(error)))
    except KeyboardInterrupt:
        _send(writer, ("interrupted",))
    except BaseException:
        _send(writer, ("failed", traceback.format_exc()))
    finally:
        os._exit(0)


def _begin(root: InitRoot, writer: int) -> None:
    """Start the root and fork the worker, which returns from here; this process waits until it has taken the root."""
    started = root.start()
    taken, tell = os.pipe()
    while True:
        reader, said = os.pipe()
        worker = _fork()
        if not worker:
            if not root.fits():
                os._exit(0)
            os.write(said, b"1")
            for fd in (reader, said, taken):
                os.close(fd)
            root.take()
            root.ready = lambda result: _send(writer, ("ready", result))
            os.write(tell, b"1")
            os.close(tell)
            return
        os.close(said)
        fits = os.read(reader, 1)
        os.close(reader)
        if fits:
            break
        os.waitpid(worker, 0)
    os.close(tell)
    _send(writer, ("worker", worker, started))
    os.read(taken, 1)
    os._exit(0)


def _telling(writer: int) -> Progress:
    def tell(phase: str, done: int, total: int) -> None:
        _send(writer, ("progress", phase, done, total))

    return tell


def _send(writer: int, message: tuple[Any, ...]) -> None:
    data = pickle.dumps(message)
    data = len(data).to_bytes(_LENGTH, "little") + data
    while data:
        data = data[os.write(writer, data) :]


# ---------------------------------------------------------------- ckpt


class _Listener:
    def __init__(
        self,
        reader: int,
        release: int,
        first: int,
        progress: Progress | None,
        seen: Callable[[int, Any], None] | None,
        stays: bool,
    ) -> None:
        self.reader, self.release, self.first = reader, release, first
        self.progress, self.seen, self.stays = progress, seen, stays
        self.worker = self.root = 0
        self.ready: Any = None

    def listen(self) -> Any:
        try:
            while True:
                match self._receive():
                    case "worker", worker, root:
                        self.worker, self.root = worker, root
                        self._reap_first()
                        self._go_on()
                    case "ready", result:
                        self.ready = result
                    case "progress", phase, done, total:
                        if self.progress is not None:
                            self.progress(phase, done, total)
                    case "result", result:
                        if self.seen is not None:
                            self.seen(self.root or self.worker, result)
                        self._go_on()
                        if not self.stays:
                            os.waitpid(self.worker, 0)
                            return result
                    case "alone", *_:  # from here on ckpt may end
                        return result
                    case "error", kind, arguments, state:
                        error = kind.__new__(kind)
                        error.args = arguments
                        error.__dict__.update(state)
                        raise error
                    case "interrupted", *_:
                        raise KeyboardInterrupt
                    case None if self._root_has_ended():
                        if self.seen is not None:
                            self.seen(self.root, self.ready)
                        return self.ready
                    case "failed", text:
                        raise CkptError(f"the work in other namespaces failed:\n{text}", hint="report this error")
                    case _:
                        raise CkptError("the process that worked in other namespaces was killed", hint="try again")
        except BaseException:
            self._end()
            raise

    def _root_has_ended(self) -> bool:
        """Whether it ran and is gone: the end of an init is that of all who are in its namespace."""
        if self.ready is None:
            return False
        if self.worker:  # first: an init does not end while a worker of its namespace is a zombie
            os.waitpid(self.worker, 0)
            self.worker = 0
        told = os.waitid(os.P_PID, self.root, os.WEXITED | os.WNOWAIT | uapi_restore.WALL)
        return told is not None and (told.si_code, told.si_status) != (os.CLD_KILLED, signal.SIGKILL)

    def _go_on(self) -> None:
        try:
            os.write(self.release, b"1")
        except BrokenPipeError:
            pass  # it has failed, and what it says of that is about to be read

    def _receive(self) -> Any:
        size = self._read(_LENGTH)
        return pickle.loads(self._read(int.from_bytes(size, "little"))) if size else None

    def _read(self, size: int) -> bytes:
        parts = []
        while size and (part := os.read(self.reader, size)):
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def _reap_first(self) -> None:
        if self.first:
            os.waitpid(self.first, 0)
            self.first = 0

    def _end(self) -> None:
        """The worker is asked to end, for it has things to undo; what it cannot undo dies with it."""
        if self.worker:
            try:
                os.kill(self.worker, signal.SIGINT if not self.stays else signal.SIGKILL)
            except ProcessLookupError:
                pass
        self._reap_first()
        if self.worker:
            os.waitpid(self.worker, 0)
        if self.root:
            try:
                os.kill(self.root, signal.SIGKILL)
                os.waitpid(self.root, uapi_restore.WALL)
            except (ProcessLookupError, ChildProcessError):
                pass
