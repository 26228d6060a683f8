"""Every error that ckpt raises: a message, a remedy and an exit code.

The table of exit codes in the README is printed from these classes by scripts/gen_tables.
"""

from __future__ import annotations

import errno as numbers
from dataclasses import dataclass

_LIMITS = {
    numbers.EMFILE: "raise the limit of open files (ulimit -n), and try again",
    numbers.ENFILE: "raise fs.file-max, or end programs that have many files open",
    numbers.EFBIG: "raise the limit of file sizes (ulimit -f), or write to a file system that holds larger files",
    numbers.ENOMEM: "free memory, or raise the limit: ulimit -v and -u, memory.max of the cgroup, "
    "vm.overcommit_memory; try again",
}


def limit_hint(errno: int | None) -> str | None:
    """What to do about a failure that a limit of the caller's own brought about, whatever the call was."""
    return _LIMITS.get(errno or 0)


class CkptError(Exception):
    """Something went wrong; `message` says what, on which object and why, `hint` what to do."""

    exit_code = 1
    usual_hint: str | None = None  # where the one who raises it knows nothing better

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint if hint is not None else self.usual_hint

    def as_dict(self) -> dict[str, object]:
        """The object that `--json` prints under "error"."""
        return {
            "type": type(self).__name__,
            "message": self.message,
            "hint": self.hint,
            "exit_code": self.exit_code,
        }


class UsageError(CkptError):
    """The command line or the arguments of an API call make no sense."""

    exit_code = 2
    usual_hint = "ckpt COMMAND --help tells what can be given"


# 10-19: the kernel or a permission


class KernelError(CkptError):
    """A system call failed; `errno` is the kernel's."""

    exit_code = 10
    usual_hint = "ckpt doctor tells what this kernel and this user can do"

    def __init__(self, message: str, *, errno: int = 0, hint: str | None = None) -> None:
        super().__init__(message, hint=hint if hint is not None else limit_hint(errno))
        self.errno = errno


class NotPermitted(KernelError):
    """The kernel refuses this user the access that the step needs."""

    exit_code = 11


class Unsupported(KernelError):
    """This kernel lacks a feature that was asked for."""

    exit_code = 12


# 20-29: the task cannot be dumped


class TaskError(CkptError):
    """A task cannot be frozen, read or dumped."""

    exit_code = 20
    usual_hint = "try again; ckpt doctor -t PID tells what stands against a dump"


class NoSuchTask(TaskError):
    """There is no such pid, or the task ended."""

    exit_code = 21
    usual_hint = "check the pid with ps"


class AlreadyTraced(TaskError):
    """Another process traces the task."""

    exit_code = 22


class FreezeTimeout(TaskError):
    """A thread did not stop before the deadline; everything was thawed again."""

    exit_code = 23


class RemoteCallError(TaskError):
    """A remote syscall could not be run inside the task (not: the call returned an errno)."""

    exit_code = 24


class NothingToBorrow(RemoteCallError):
    """No code was found in the task that a remote syscall could run, nor room behind its program for any."""

    exit_code = 26

    def __init__(self, message: str, *, pid: int = 0, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.pid = pid


@dataclass(frozen=True, slots=True)
class Refusal:
    """One thing in a task that cannot be restored: the task, the object, why, what to do."""

    pid: int
    subject: str  # "fd 7", "vma 7f00-7f10", "thread 12"
    reason: str  # "is an io_uring"
    hint: str | None = None
    passing: bool = False  # the task may be out of this state a moment later

    def __str__(self) -> str:
        return f"task {self.pid}: {self.subject} {self.reason}"


class NotDumpable(TaskError):
    """The tree holds state that cannot be restored; all of it is listed, nothing was changed."""

    exit_code = 25

    def __init__(self, refusals: list[Refusal]) -> None:
        self.refusals = tuple(refusals)
        lines = [str(refusal) for refusal in refusals]
        message = lines[0] if len(lines) == 1 else "\n".join(["the tree cannot be dumped:", *lines])
        hints = list(dict.fromkeys(r.hint for r in refusals if r.hint))
        super().__init__(message, hint="\n".join(hints) or None)

    def as_dict(self) -> dict[str, object]:
        refusals = [{"pid": r.pid, "object": r.subject, "reason": r.reason, "hint": r.hint} for r in self.refusals]
        return {**CkptError.as_dict(self), "refusals": refusals}


# 30-39: an image


class ImageError(CkptError):
    """An image is damaged, truncated or not an image."""

    exit_code = 30
    usual_hint = "ckpt verify tells what is damaged; restore from an earlier round (--at) or from another copy"


class ImageVersionError(ImageError):
    """The image was written by a newer format version."""

    exit_code = 31


class ImageWriteError(ImageError):
    """An image could not be written (disk full, directory not writable); nothing was left behind."""

    exit_code = 32
    usual_hint = "look at the state of the file system (dmesg, mount), or write to another directory"


# 40-49: a chain


class ChainError(CkptError):
    """The images of a directory do not form a chain."""

    exit_code = 40
    usual_hint = "give -D the directory of a chain, or for a round one that is new or can be written to"


class MissingParent(ChainError):
    """An image's parent is not in the directory."""

    exit_code = 41


class WrongChain(ChainError):
    """The chain belongs to another process."""

    exit_code = 42


class ChainBusy(ChainError):
    """Another ckpt works on the directory."""

    exit_code = 43


# 50-59: restore


class RestoreError(CkptError):
    """A state of a task could not be rebuilt; the half-built tree was killed."""

    exit_code = 50


class PidTaken(RestoreError):
    """A pid of the image is in use."""

    exit_code = 51


class FileChanged(RestoreError):
    """A file that the task uses has changed or gone since the dump."""

    exit_code = 52


class HostMismatch(RestoreError):
    """This host's CPU, kernel or vdso cannot hold the image's state."""

    exit_code = 53
