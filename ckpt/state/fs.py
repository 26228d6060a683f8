"""Working directory, root directory, umask."""

from __future__ import annotations

import errno
import os
from functools import partial

from ckpt.errors import FileChanged, KernelError, RestoreError
from ckpt.kernel import procfs, taskinfo, uapi, uapi_files
from ckpt.records.seams import RemoteTask
from ckpt.records.state import FsState
from ckpt.records.support import Support
from ckpt.state.context import CollectContext, RestoreContext
from ckpt.state.files.channel import deliver
from ckpt.state.files.collect import collect_mapped_file
from ckpt.state.rebuild import rebuilding

SUPPORT = Support(
    "identity",
    "directories",
    "cwd, root, umask",
    refused="a root that was deleted, a directory that cannot be reached (let the task change to another one)",
)

_ENOENT, _ENOTDIR = 2, 20


def collect_fs(pid: int, tid: int, status: dict[str, str], context: CollectContext) -> FsState:
    """Paths as seen from ckpt's own root; a cwd that was deleted or is hidden is a file of the image like others."""
    paths, cwd_file = {}, 0
    for name, words in (("cwd", "its working directory"), ("root", "its root directory")):
        try:
            path, deleted = taskinfo.link_state(tid, name)
        except KernelError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
            context.refuse(pid, words, "has a path longer than PATH_MAX", "let the task change to another one")
            paths[name] = "/"
            continue
        hidden = not deleted and path.startswith("/") and not _leads(path, f"/proc/{pid}/task/{tid}/{name}")
        if (deleted or hidden) and name == "cwd":
            cwd_file = collect_mapped_file(context, pid, f"/proc/{pid}/task/{tid}/cwd", os.O_RDONLY)
        elif deleted:
            context.refuse(
                pid,
                words,
                f"was deleted ({path.removesuffix(' (deleted)')})",
                "let the task change to another one",
            )
        elif hidden:
            context.refuse(pid, words, f"is hidden by a mount ({path})", "unmount what hides it")
        elif not path.startswith("/"):
            context.refuse(pid, words, f"cannot be reached from here ({path})", "run ckpt in its mount namespace")
        paths[name] = path
    return FsState(cwd=paths["cwd"], root=paths["root"], umask=int(status["Umask"], 8), cwd_file=cwd_file)


def _leads(path: str, magic: str) -> bool:
    """Whether the path leads to what the magic link does: a mount may have come over it."""
    try:
        there, real = os.stat(path), os.stat(magic)
    except OSError:
        return False
    return (there.st_dev, there.st_ino) == (real.st_dev, real.st_ino)


def restore_fs(remote: RemoteTask, record: FsState) -> None:
    """Before the credentials. chdir comes first, for its path is not one inside the new root."""
    pid, proc = remote.pid, f"/proc/{remote.pid}/task/{remote.tid}"
    if not record.cwd_file and procfs.link(f"{proc}/cwd") != record.cwd:
        _change(remote, uapi.SYS_chdir, record.cwd, "working directory")
    if procfs.link(f"{proc}/root") != record.root:
        _change(remote, uapi.SYS_chroot, record.root, "root directory")
    with rebuilding(pid, "umask"):
        remote.syscall(uapi.SYS_umask, record.umask)


def prepare_deleted(context: RestoreContext, pid: int, record: FsState) -> None:
    """Queue the change to a cwd without a name, for when descriptors come to the task. Inside its root by then."""
    if record.cwd_file:
        context.when_installed(pid, partial(_change_to_deleted, context, record))


def _change_to_deleted(context: RestoreContext, record: FsState, task: RemoteTask) -> None:
    with rebuilding(task.pid, "working directory"):
        fd = deliver(context, task, record.cwd_file)
        task.syscall(uapi.SYS_fchdir, fd)
        task.syscall(uapi_files.SYS_close, fd)


def _change(remote: RemoteTask, nr: int, path: str, words: str) -> None:
    raw = path.encode("utf-8", "surrogateescape") + b"\0"
    if len(raw) > remote.scratch_size:
        raise RestoreError(f"task {remote.pid}: the path of its {words} is too long: {path}")
    try:
        remote.syscall(nr, remote.put(raw))
    except KernelError as error:
        if error.errno in (_ENOENT, _ENOTDIR):
            raise FileChanged(
                f"task {remote.pid}: its {words} {path} is gone", hint="create the directory again"
            ) from error
        raise RestoreError(
            f"task {remote.pid}: its {words} {path} could not be entered: {error.message}", hint=error.hint
        ) from error
