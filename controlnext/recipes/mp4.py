"""Metadata of an MP4: a JSON object in its comment, as a PNG carries its recipe in text chunks.

Written by ffmpeg with the file; read here without it, box by box, so that a gallery of many videos lists at once.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

_COMMENT = b"\xa9cmt"
_ROAD = (b"moov", b"udta", b"meta", b"ilst", _COMMENT, b"data")
_INSIDE = {b"meta": 4, b"data": 8}  # bytes before the contents: version and flags, of `data` also the locale
_LARGEST = 64 << 20  # bytes of a comment; more is not a recipe
_ESCAPED = "=;#\\\n"


def metadata_file(contents: Mapping[str, Any]) -> str:
    """Write contents in ffmpeg's metadata format; JSON values only, plain ASCII."""
    text = json.dumps(dict(contents), ensure_ascii=True, separators=(",", ":"))
    escaped = "".join(f"\\{character}" if character in _ESCAPED else character for character in text)
    return f";FFMETADATA1\ncomment={escaped}\n"


def read_contents(path: str | Path) -> dict[str, Any]:
    """Read what a video carries.

    Args:
        path: a file of any kind.

    Returns:
        The object that was given as `contents` when it was written, such as `{"controlnext": {...}}`; empty for a video of
        another program, or a file that is no MP4.
    """
    try:
        with Path(path).open("rb") as file:
            size = file.seek(0, 2)
            text = _find(file, 0, size, _ROAD)
        contents = json.loads(text or b"{}")
    except (OSError, ValueError, RecursionError):
        return {}
    return contents if isinstance(contents, dict) else {}


def _find(file: BinaryIO, start: int, end: int, names: tuple[bytes, ...]) -> bytes | None:
    for name, inside, after in _boxes(file, start, end):
        if name != names[0]:
            continue
        inside += _INSIDE.get(name, 0)
        if len(names) == 1:
            file.seek(inside)
            return file.read(max(0, min(after - inside, _LARGEST)))
        found = _find(file, inside, after, names[1:])
        if found is not None:
            return found
    return None


def _boxes(file: BinaryIO, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, start of the contents and end of each box; stops at one that does not fit (ISO/IEC 14496-12, 4.2)."""
    while start + 8 <= end:
        file.seek(start)
        size, name = int.from_bytes(file.read(4)), file.read(4)
        header = 8
        if size == 1:
            size, header = int.from_bytes(file.read(8)), 16
        elif size == 0:
            size = end - start
        if size < header or start + size > end:
            return
        yield name, start + header, start + size
        start += size
