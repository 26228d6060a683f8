"""Page codecs: zero, XOR and zstd over contiguous pages; pure functions."""
