"""ckpt: incremental checkpoints of live Linux processes."""

from __future__ import annotations

__version__ = "0.1.0"
