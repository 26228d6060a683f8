"""The extended state as the kernel keeps it (XSAVES, compacted) in the format of NT_X86_XSTATE.

Intel's manual, volume 1, chapter 13. Where the parts are is asked of the CPU (leaf 0xd of cpuid).
"""

from __future__ import annotations

import ctypes
import functools
import mmap
import struct

from ckpt.kernel import uapi

_LEGACY, _HEADER = 512, 64
_COMPACTED = 1 << 63
_USER = 0x602E7  # the features that NT_X86_XSTATE may show: x87 to AVX-512, PKRU, AMX
# push rbx; mov eax, edi; mov ecx, esi; mov r8, rdx; cpuid; store the four; pop rbx; ret
_CODE = bytes.fromhex("5389f889f14989d00fa241890041895804418948084189500c5bc3")


@functools.cache
def _cpuid(leaf: int, part: int) -> tuple[int, int, int, int]:
    with mmap.mmap(-1, mmap.PAGESIZE, prot=uapi.PROT_READ | uapi.PROT_WRITE | uapi.PROT_EXEC) as area:
        area.write(_CODE)
        held = ctypes.c_char.from_buffer(area)
        out = (ctypes.c_uint32 * 4)()
        call = ctypes.CFUNCTYPE(None, ctypes.c_uint32, ctypes.c_uint32, ctypes.c_void_p)(ctypes.addressof(held))
        call(leaf, part, ctypes.addressof(out))
        del call, held
        return out[0], out[1], out[2], out[3]


@functools.cache
def protection_keys() -> bool:
    """Whether mappings have protection keys here (OSPKE)."""
    return bool(_cpuid(7, 0)[2] >> 4 & 1)


def pkru(xstate: bytes) -> int:
    """The rights register of the protection keys, in NT_X86_XSTATE."""
    offset = _cpuid(0xD, 9)[1]
    return int.from_bytes(xstate[offset : offset + 4], "little")


def standard_format(area: bytes) -> bytes:
    """An XSAVE area in the standard format; without what user space may not see."""
    in_use, layout = struct.unpack_from("<QQ", area, _LEGACY)
    features = layout & ~_COMPACTED & _USER if layout & _COMPACTED else in_use & _USER
    supported = _cpuid(0xD, 0)[0] & _USER
    result = bytearray(_size(supported))
    result[: _LEGACY + _HEADER] = area[:_LEGACY] + struct.pack("<Q", in_use & _USER) + bytes(_HEADER - 8)
    struct.pack_into("<Q", result, 464, supported)  # XCR0, in the bytes that software may use
    at = _LEGACY + _HEADER
    for number in range(2, 63):
        present = layout >> number & 1 if layout & _COMPACTED else features >> number & 1
        if not present:
            continue
        size, offset, kind, _ = _cpuid(0xD, number)
        if layout & _COMPACTED:
            at = -(-at // 64) * 64 if kind & 2 else at
            start, at = at, at + size
        else:
            start = offset
        if in_use >> number & 1 and _USER >> number & 1:
            result[offset : offset + size] = area[start : start + size].ljust(size, b"\0")
    return bytes(result)


def _size(features: int) -> int:
    """Of an area in the standard format with all these features."""
    ends = [_cpuid(0xD, number) for number in range(2, 63) if features >> number & 1]
    return max([_LEGACY + _HEADER, *(offset + size for size, offset, _, _ in ends)])
