"""The size of a JPEG XL picture, read from its header: its decoder would decode the whole picture first."""

from __future__ import annotations

import struct

_RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))
_BITS = (9, 13, 18, 30)


def size_of_jxl(data: bytes) -> tuple[int, int] | None:
    """Return width and height in pixels, or None for a damaged file.

    Args:
        data: the beginning of a file, a codestream or a container.

    Source: ISO/IEC 18181-1, section "SizeHeader", and ISO/IEC 18181-2 for the boxes.
    """
    stream = data if data.startswith(b"\xff\x0a") else _codestream(data)
    if stream is None or not stream.startswith(b"\xff\x0a") or len(stream) < 16:
        return None
    bits = int.from_bytes(stream[2:16], "little")

    def take(count: int) -> int:
        nonlocal bits
        value, bits = bits & ((1 << count) - 1), bits >> count
        return value

    small = take(1)

    def side() -> int:
        return 8 * (take(5) + 1) if small else take(_BITS[take(2)]) + 1

    height = side()
    ratio = take(3)
    if ratio == 0:
        return side(), height
    across, down = _RATIOS[ratio - 1]
    return height * across // down, height


def _codestream(data: bytes) -> bytes | None:
    """Return the beginning of the codestream inside of a container."""
    at = 0
    while at + 8 <= len(data):
        length, name = struct.unpack(">I4s", data[at : at + 8])
        start = at + 8
        if length == 1:
            length, start = int.from_bytes(data[start : start + 8], "big"), start + 8
        if name == b"jxlc":
            return data[start:]
        if name == b"jxlp":
            return data[start + 4 :]
        if length < 8:
            return None
        at += length
    return None
