"""ckpt: incremental checkpoints of live Linux processes. What is named here is the public API; all else may change.

Everything is imported on first use, for a command that only prints its version needs none of it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ckpt.errors import CkptError

if TYPE_CHECKING:
    from ckpt.chain.directory import ImageInfo
    from ckpt.chain.merge import MergeResult, merge
    from ckpt.chain.verify import VerifyReport, verify
    from ckpt.engine.doctor import DoctorReport, doctor, dumpable
    from ckpt.engine.restore import Restored, restore
    from ckpt.engine.rounds import dump, pre_dump, precopy, show
    from ckpt.state.context import DumpOptions

__version__ = "0.1.0"

_HOMES = {
    "DoctorReport": "ckpt.engine.doctor",
    "DumpOptions": "ckpt.state.context",
    "ImageInfo": "ckpt.chain.directory",
    "MergeResult": "ckpt.chain.merge",
    "Restored": "ckpt.engine.restore",
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
    "ImageInfo",
    "MergeResult",
    "Restored",
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
