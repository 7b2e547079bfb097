"""Contact sheets: rows of pictures in one PNG, to look at."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image


def save_sheet(path: Path, rows: Iterable[np.ndarray | list[np.ndarray]], gap: int = 4) -> None:
    """Write rows of (H, W, 3) uint8 pictures of one size as a PNG with white gaps of `gap` pixels."""
    lines = []
    for row in rows:
        padded = [np.pad(np.asarray(p), ((0, gap), (0, gap), (0, 0)), constant_values=255) for p in row]
        lines.append(np.concatenate(padded, axis=1))
    width = max(line.shape[1] for line in lines)
    lines = [np.pad(line, ((0, 0), (0, width - line.shape[1]), (0, 0)), constant_values=255) for line in lines]
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate(lines, axis=0)).save(path)
