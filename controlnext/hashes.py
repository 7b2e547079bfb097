"""Names for weights by their content, so that a recipe says what it was made with."""

from __future__ import annotations

import hashlib
from pathlib import Path

WHOLE = 256 << 20
"""Bytes up to which a file is read whole; of a larger one the size, the start and the end are, which costs nothing."""

_END = 4 << 20
_KINDS = (".safetensors", ".bin", ".json", ".txt")

_known: dict[Path, tuple[tuple[int, int], str]] = {}


def weights_digest(path: str | Path) -> str:
    """Digest of a weights file, or of all weights and configurations in a folder.

    Args:
        path: a file or folder.

    Returns:
        SHA-256 in hexadecimal, over relative names and contents; begins with `partial-` if a file was too large to read whole.
    """
    path = Path(path)
    if path.is_file():
        return _file_digest(path)
    digest, partial = hashlib.sha256(), ""
    for file in sorted(path.rglob("*")):
        inside = file.relative_to(path)
        if file.suffix in _KINDS and file.is_file() and not any(part.startswith(".") for part in inside.parts):
            one = _file_digest(file)
            partial = partial or ("partial-" if one.startswith("partial-") else "")
            digest.update(f"{inside.as_posix()}:{one}\n".encode())
    return partial + digest.hexdigest()


def _file_digest(path: Path) -> str:
    status = path.stat()
    stamp = (status.st_size, status.st_mtime_ns)
    if _known.get(path, (None,))[0] != stamp:
        _known[path] = (stamp, _read_digest(path, status.st_size))
    return _known[path][1]


def _read_digest(path: Path, size: int) -> str:
    with path.open("rb") as file:
        if size <= WHOLE:
            return hashlib.file_digest(file, "sha256").hexdigest()
        digest = hashlib.sha256(f"{size}:".encode())
        digest.update(file.read(_END))
        file.seek(-_END, 2)
        digest.update(file.read())
        return f"partial-{digest.hexdigest()}"
