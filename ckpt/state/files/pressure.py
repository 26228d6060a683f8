"""Files of pressure stall information (PSI) that have a trigger, in /proc/pressure and in cgroups."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

from ckpt.errors import RestoreError, Unsupported
from ckpt.kernel import pressure, uapi_files
from ckpt.records.base import Record
from ckpt.records.file_kinds import PathFile
from ckpt.records.files import FileRecord
from ckpt.records.support import Support
from ckpt.state.context import CollectContext, RestoreContext
from ckpt.state.files import paths
from ckpt.state.files.base import FileView
from ckpt.state.files.procfiles import open_at
from ckpt.state.files.regular import path_payload

SUPPORT = Support(
    "files",
    "pressure triggers",
    "what was written into /proc/pressure/… or a cgroup's ….pressure, to be polled",
    lost="that a trigger went off and nobody has polled it since",
)

_SYSTEM = re.compile(r"/proc/pressure/\w+$")
_CGROUP = re.compile(r"/.*/(cpu|io|irq|memory)\.pressure$")
_ALWAYS_FULL = "irq"  # the resource of which there is no "some"; its state stands alone behind the pairs of the others


class PressureFiles:
    """Those that are open for writing; without a trigger it is a file as any other there."""

    kind = "pressure"

    def recognises(self, view: FileView) -> bool:
        written = view.flags & os.O_ACCMODE and not view.flags & uapi_files.O_PATH
        return bool(written) and (_SYSTEM.match(view.link) is not None or _in_cgroup(view))

    def collect(self, view: FileView, context: CollectContext) -> Record:
        payload = path_payload(view, view.link)
        if not paths.reachable(view.link, view.stat):
            context.refuse(view.pid, view.subject, "cannot be opened again", "close it before the dump")
            return payload
        with view.stolen(context) as fd:
            if not pressure.has_trigger(fd):
                return payload
            try:
                state, threshold, window = pressure.trigger(fd, cgroup=_SYSTEM.match(view.link) is None)
            except Unsupported:
                context.refuse(
                    view.pid,
                    view.subject,
                    "has a pressure trigger, which cannot be read",
                    "run ckpt as root, or let the task close it before the dump",
                )
                return payload
        full = state % 2 or _ALWAYS_FULL in Path(view.link).name
        return replace(payload, trigger=f"{'full' if full else 'some'} {threshold} {window}")

    def restore(self, file: FileRecord, context: RestoreContext) -> int:
        payload: PathFile = file.payload
        fd = open_at(payload, file)
        if payload.trigger:
            try:
                os.write(fd, payload.trigger.encode() + b"\0")
            except OSError as error:
                os.close(fd)
                raise RestoreError(
                    f"the pressure trigger ({payload.trigger}) of {payload.path} is refused: {error.strerror}",
                    hint="a window that is no multiple of 2 s needs CAP_SYS_RESOURCE",
                ) from None
        return fd


def _in_cgroup(view: FileView) -> bool:
    """Whether the file lies in a file system of the type cgroup2, and has such a name."""
    if _CGROUP.match(view.link) is None:
        return False
    device = f"{os.major(view.stat.st_dev)}:{os.minor(view.stat.st_dev)}"
    lines = Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines()
    return any(line.split()[2] == device and " - cgroup2 " in line for line in lines)


KIND = PressureFiles()
