"""Character and block devices. Only those without state of their own can be opened again."""

from __future__ import annotations

import os
import stat
from dataclasses import replace

from ckpt.errors import RestoreError
from ckpt.kernel import uapi_files
from ckpt.records.base import Record
from ckpt.records.file_kinds import PathFile
from ckpt.records.files import FileRecord
from ckpt.records.support import Support
from ckpt.state.context import CollectContext, RestoreContext
from ckpt.state.files import names, paths
from ckpt.state.files.base import FileView
from ckpt.state.files.regular import open_payload, path_payload

SUPPORT = Support("files", "devices", "those without state, as /dev/null; /dev/kmsg for writing")


class Devices:
    """Device nodes. Terminals are taken by a kind that is asked before."""

    kind = "device"

    def recognises(self, view: FileView) -> bool:
        mode = view.stat.st_mode
        return (stat.S_ISCHR(mode) or stat.S_ISBLK(mode)) and not view.flags & uapi_files.O_PATH

    def collect(self, view: FileView, context: CollectContext) -> Record:
        device = (os.major(view.stat.st_rdev), os.minor(view.stat.st_rdev))
        if stat.S_ISBLK(view.stat.st_mode):
            context.refuse(
                view.pid,
                view.subject,
                "is a block device, whose contents ckpt cannot vouch for",
                "close it before the dump",
            )
        elif not _is_safe(device, view.flags):
            what = uapi_files.DEVICE_NAMES.get(device) or uapi_files.DEVICE_MAJORS.get(device[0])
            named = f"is {what}" if what and " " in what else f"is the device {what}" if what else "is a device"
            context.refuse(
                view.pid,
                view.subject,
                f"{named} ({device[0]}:{device[1]}), whose state is in its driver and cannot be restored",
                "let the task close the device before the dump",
            )
        elif not paths.reachable(view.link, view.stat):
            if view.link.endswith(paths.DELETED) and not view.stat.st_nlink:
                node = view.stat
                payload = path_payload(view, paths.without_deleted(view.link))
                return replace(payload, rdev=node.st_rdev, uid=node.st_uid, gid=node.st_gid)
            handle = names.handle_of(view)
            if handle is not None:  # hidden by a mount, or known by another name
                return replace(path_payload(view, view.link), handle=handle)
            context.refuse(view.pid, view.subject, "cannot be reached by its path")
        return path_payload(view, view.link)

    def restore(self, file: FileRecord, context: RestoreContext) -> int:
        path: str = file.payload.path
        if file.payload.rdev:
            return _nameless(file.payload, file.flags)
        fd = open_payload(file.payload, file.flags)
        found = os.fstat(fd)
        device = (os.major(found.st_rdev), os.minor(found.st_rdev))
        if not stat.S_ISCHR(found.st_mode) or not _is_safe(device, file.flags):
            os.close(fd)
            raise RestoreError(
                f"{path} is another device here than at the dump",
                hint="restore where /dev is populated as usual",
            )
        return fd


def _is_safe(device: tuple[int, int], flags: int) -> bool:
    written = flags & os.O_ACCMODE == os.O_WRONLY and device in uapi_files.WRITABLE_DEVICES
    return written or device in uapi_files.SAFE_DEVICES


def _nameless(payload: PathFile, flags: int) -> int:
    def make(name: str) -> int:
        os.mknod(name, payload.mode, payload.rdev)
        os.chown(name, payload.uid, payload.gid)
        os.chmod(name, stat.S_IMODE(payload.mode))  # whatever the umask
        return paths.open_path(name, flags)

    try:
        return paths.make_nameless(payload.path, make, os.unlink)
    except OSError as error:
        raise RestoreError(
            f"the deleted device node {payload.path} cannot be made again: {error.strerror}",
            hint="run ckpt with CAP_MKNOD, and where device nodes are allowed (no nodev mount)",
        ) from None


KIND = Devices()
