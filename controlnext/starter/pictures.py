"""`python -m controlnext.starter.pictures FOLDER`: pictures of the starter's world with captions, for a first training.

The starter knows only its own drawn world, so an adapter for it is learned from pictures of that world. With `--condition` each
also gets its exact condition as the world knows it: one of those that annotators read, or a normal map, which none of them makes.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from controlnext.starter.train.dataset import FIRST_TRAINING_SEED, make_samples
from controlnext.starter.world.conditions import CONDITIONS, condition
from controlnext.starter.world.world import Picture
from controlnext.training.data.rows import METADATA

NORMAL = "normal"

COUNT = 400
# Far from the scenes of `python -m controlnext.starter render`, so that these pictures are new to the base as well.
FIRST_SEED = 10 * FIRST_TRAINING_SEED
_STEEPNESS = 24.0  # depth is in [0, 1] over a picture; this makes a limb's roundness fill the range of a colour


def normal_map(depth: np.ndarray) -> np.ndarray:
    """Turn depth (H, W) in [0, 1], 1 near, into a normal map (H, W, 3) uint8: right is red, up is green, towards us blue."""
    down, right = np.gradient(depth.astype(np.float32))
    normals = np.stack([-right * _STEEPNESS, down * _STEEPNESS, np.ones_like(depth, np.float32)], axis=-1)
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    return np.rint((normals * 0.5 + 0.5) * 255).astype(np.uint8)


def _drawn(kind: str, picture: Picture) -> np.ndarray:
    return normal_map(picture.depth) if kind == NORMAL else condition(kind, picture)


def write_pictures(folder: Path, count: int, kind: str | None = None, first: int = 0) -> None:
    """Write `0000.png` and so on with their captions in `metadata.jsonl`.

    Args:
        folder: where to; made if it is not there.
        count: how many.
        kind: also write conditions of this kind, one of `CONDITIONS` or `NORMAL`, to a folder of that name in it.
        first: number of the first picture; other numbers are other pictures.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for number in range(first, first + count):
        sample = make_samples(FIRST_SEED + number, 1)[0]
        name = f"{number:04d}.png"
        Image.fromarray(sample.picture.rgb).save(folder / name)
        row = {"file_name": name, "text": sample.caption(np.random.default_rng(number))}
        if kind:
            (folder / kind).mkdir(exist_ok=True)
            Image.fromarray(_drawn(kind, sample.picture)).save(folder / kind / name)
            row["conditioning_image"] = f"{kind}/{name}"
        lines.append(json.dumps(row))
    (folder / METADATA).write_text("\n".join(lines) + "\n", encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """Write pictures; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m controlnext.starter.pictures", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=COUNT, help=f"how many (default: {COUNT})")
    parser.add_argument(
        "--first", type=int, default=0, help="number of the first; others are other pictures (default: 0)"
    )
    parser.add_argument("--condition", choices=(NORMAL, *CONDITIONS), help="write these conditions, too")
    options = parser.parse_args(arguments)
    write_pictures(options.folder, options.count, options.condition, options.first)
    sys.stdout.write(f"{options.count} pictures in {options.folder}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
