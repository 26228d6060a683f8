"""Images in order: parents, the epochs journal, merge, verify."""

from ckpt.chain.directory import Chain, ImageInfo
from ckpt.chain.journal import Journal, TrackerState
from ckpt.chain.layers import View, view
from ckpt.chain.round import Round

__all__ = [
    "Chain",
    "ImageInfo",
    "Journal",
    "Round",
    "TrackerState",
    "View",
    "view",
]
