"""Page codecs on contiguous pages: zero test, XOR, zstd, hashes. Pure: no files, no processes."""
