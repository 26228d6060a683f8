"""Images in order: parents, the epochs journal, merge, verify."""

from ckpt.chain.directory import Chain, ImageInfo
from ckpt.chain.journal import Journal, TrackerState
from ckpt.chain.layers import View, view
from ckpt.chain.merge import MergeResult, merge
from ckpt.chain.round import Round
from ckpt.chain.verify import VerifyReport, verify

__all__ = [
    "Chain",
    "ImageInfo",
    "Journal",
    "MergeResult",
    "Round",
    "TrackerState",
    "VerifyReport",
    "View",
    "merge",
    "verify",
    "view",
]
