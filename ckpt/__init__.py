"""ckpt: incremental checkpoints of live Linux processes. What is named here is the public API; all else may change.

    import ckpt

    ckpt.pre_dump(4121, "/var/tmp/redis")  # as often as wanted: the task goes on
    ckpt.dump(4121, "/var/tmp/redis")  # the task ends, unless leave="running"
    restored = ckpt.restore("/var/tmp/redis")
    status = restored.wait()

Every failure is a CkptError (the whole tree is in `ckpt.errors`): `message`, `hint`, `exit_code`. Everything is
imported on first use, for a command that only prints its version needs none of it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ckpt.errors import CkptError, NotDumpable, Refusal

if TYPE_CHECKING:
    from ckpt.chain.directory import ImageInfo
    from ckpt.chain.merge import MergeResult, merge
    from ckpt.chain.verify import VerifyReport, verify
    from ckpt.engine.doctor import DoctorReport, doctor, dumpable
    from ckpt.engine.progress import Progress
    from ckpt.engine.restore import Restored, restore
    from ckpt.engine.rounds import dump, pre_dump, precopy, show
    from ckpt.kernel.features import Feature
    from ckpt.records.image import ImageHeader, Statistics
    from ckpt.state.context import DumpOptions

__version__ = "0.1.0"

_HOMES = {
    "DoctorReport": "ckpt.engine.doctor",
    "DumpOptions": "ckpt.state.context",
    "Feature": "ckpt.kernel.features",
    "ImageHeader": "ckpt.records.image",
    "ImageInfo": "ckpt.chain.directory",
    "MergeResult": "ckpt.chain.merge",
    "Progress": "ckpt.engine.progress",
    "Restored": "ckpt.engine.restore",
    "Statistics": "ckpt.records.image",
    "VerifyReport": "ckpt.chain.verify",
    "doctor": "ckpt.engine.doctor",
    "dump": "ckpt.engine.rounds",
    "dumpable": "ckpt.engine.doctor",
    "merge": "ckpt.chain.merge",
    "pre_dump": "ckpt.engine.rounds",
    "precopy": "ckpt.engine.rounds",
    "restore": "ckpt.engine.restore",
    "show": "ckpt.engine.rounds",
    "verify": "ckpt.chain.verify",
}

__all__ = [
    "CkptError",
    "DoctorReport",
    "DumpOptions",
    "Feature",
    "ImageHeader",
    "ImageInfo",
    "MergeResult",
    "NotDumpable",
    "Progress",
    "Refusal",
    "Restored",
    "Statistics",
    "VerifyReport",
    "__version__",
    "doctor",
    "dump",
    "dumpable",
    "merge",
    "pre_dump",
    "precopy",
    "restore",
    "show",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'ckpt' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
