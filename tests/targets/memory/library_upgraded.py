"""A library of some size that was deleted after it was loaded, as an upgrade does it."""

import ctypes
import os
import shutil
from pathlib import Path

from target_api import DIR, Skip, checkpoint, run


def main():
    libraries = [line.split()[5] for line in Path("/proc/self/maps").read_text().splitlines() if "/libm.so" in line]
    found = libraries or [str(p) for p in Path("/lib/x86_64-linux-gnu").glob("libm.so.6")]
    if not found:
        raise Skip("no libm")
    shutil.copy(found[0], DIR / "libcopy.so")
    with open(DIR / "libcopy.so", "ab") as file:
        file.write(os.urandom(3 << 20))
    library = ctypes.CDLL(str(DIR / "libcopy.so"))
    library.cos.restype, library.cos.argtypes = ctypes.c_double, [ctypes.c_double]
    os.unlink(DIR / "libcopy.so")
    if checkpoint():
        raise AssertionError("tampered")
    assert library.cos(0.0) == 1.0
    library.exp.restype, library.exp.argtypes = ctypes.c_double, [ctypes.c_double]
    assert library.exp(0.0) == 1.0
    assert "libcopy" in Path("/proc/self/maps").read_text()


run(main)
