"""Dirty tracking: soft-dirty, write-protect, content-hash, and the choice between them."""
