"""`python -m controlnext.starter.remake.gaps FOLDER`: what the page's pose reader leaves out of skeletons of photographs.

Each photograph of FOLDER is read whole; then heads, busts, half and whole figures are cut out of it around each person and read again. What
the whole photograph shows inside of a cut and the cut's reading lacks is a gap. Training leaves out as much
(`controlnext.starter.scenes.conditions.MISSING`).
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from annotators import AnnotatorError, annotate, load_picture
from annotators.poses.skeleton import CONFIDENCE, KEYPOINTS
from annotators.table import AUTO
from controlnext.starter.scenes.conditions import HIPS, LEGS, SIDES

SIZE = 256
NEAR = 0.15
"""Joints of two readings are the same person's where their median distance is at most this share of the person's extent."""

Rates = dict[str, list[float]]
_REACH = {"head": 1.1, "bust": 1.8, "half": 2.6}  # half a side of a cut, in distances from nose to neck
_CENTRE = {"head": 0.0, "bust": 0.8, "half": 1.6}  # of its middle, down from the nose


def readings(picture: Image.Image, backend: str = AUTO) -> list[np.ndarray]:
    """Return the people that a pose reader finds, the page's default one if none is named, (18, 3) each, in pixels of the picture."""
    try:
        found = annotate("pose", picture, resolution=min(picture.size), backend=backend)
    except AnnotatorError:
        return []
    people = [np.asarray(person, np.float64).reshape(18, 3) for person in (found.data or {}).get("people", [])]
    scale = np.array([picture.width / found.image.width, picture.height / found.image.height, 1])
    return [person * scale for person in people]


def cuts(person: np.ndarray, width: int, height: int) -> Iterator[tuple[str, tuple[int, int, int, int]]]:
    """Yield kind and box of the square cuts around a person (18, 3) that lie in a picture of `width` x `height` pixels."""
    seen = person[person[:, 2] >= CONFIDENCE, :2]
    nose, neck = (person[KEYPOINTS.index(name)] for name in ("nose", "neck"))
    boxes = {}
    if min(nose[2], neck[2]) >= CONFIDENCE:
        unit = float(np.hypot(*(nose - neck)[:2]))
        boxes = {kind: (nose[0], nose[1] + _CENTRE[kind] * unit, _REACH[kind] * unit) for kind in _REACH}
    if len(seen):
        middle = (seen.min(0) + seen.max(0)) / 2
        boxes["whole"] = (*middle, 0.62 * float(np.ptp(seen, axis=0).max()))
    for kind, (x, y, reach) in boxes.items():
        box = (
            max(0, round(x - reach)),
            max(0, round(y - reach)),
            min(width, round(x + reach)),
            min(height, round(y + reach)),
        )
        if min(box[2] - box[0], box[3] - box[1]) >= 64:
            yield kind, box


def gaps(shown: np.ndarray, found: np.ndarray) -> Iterator[tuple[str, float]]:
    """Yield what a reading lacks of a person: names of `MISSING` with 1 where it is lacking and 0 where it is there.

    Larger losses are told first, and single joints only among those that no larger one took; `jitter` is the standard deviation of those
    that are there, as a share of the person's extent.

    Args:
        shown: (18, 3), the person; joints below `CONFIDENCE` are not in the picture.
        found: (18, 3), the reading.
    """
    there, kept = shown[:, 2] >= CONFIDENCE, found[:, 2] >= CONFIDENCE
    taken = np.zeros(len(there), bool)

    def group(indices: list[int]) -> float | None:
        inside = [i for i in indices if there[i] and not taken[i]]
        if len(inside) < 2:
            return None
        lost = not kept[inside].any()
        taken[inside] |= lost
        return float(lost)

    for name, indices in (("hips", [*HIPS, *LEGS]), ("legs", LEGS)):
        if (lost := group(indices)) is not None:
            yield name, lost
    for name, sides in SIDES.items():
        lost = [value for side in sides if (value := group(side)) is not None]
        if lost:
            yield name, float(any(lost))
    for i in np.nonzero(there & ~taken)[0]:
        yield "joint", float(not kept[i])
    both = there & kept
    if both.sum() >= 4:
        extent = float(np.ptp(shown[there, :2], axis=0).max())
        moved = (found - shown)[both, :2]
        yield "jitter", float((moved - np.median(moved, 0)).std() / max(extent, 1e-6))


def measure(folder: Path) -> dict[str, Rates]:
    """Return, for each kind of cut and for all, the gaps of every cut of every photograph of `folder`."""
    rates: dict[str, Rates] = defaultdict(lambda: defaultdict(list))
    for path in sorted(p for p in folder.iterdir() if p.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp")):
        photo = load_picture(path)
        for person in readings(photo):
            for kind, box in cuts(person, *photo.size):
                part = photo.crop(box)
                part = part.resize((SIZE, round(SIZE * part.height / part.width)), Image.Resampling.LANCZOS)
                scale = SIZE / (box[2] - box[0])
                shown = (person - np.array([box[0], box[1], 0])) * np.array([scale, scale, 1])
                outside = ((shown[:, :2] < 0) | (shown[:, :2] >= part.size)).any(1)
                shown[outside, 2] = 0
                if (shown[:, 2] >= CONFIDENCE).sum() < 4:
                    continue
                extent = np.ptp(shown[shown[:, 2] >= CONFIDENCE, :2], axis=0).max()
                matched = [p for p in readings(part) if distance(shown, p) <= NEAR * extent]
                for name in (kind, "all"):
                    rates[name]["nobody"].append(float(not matched))
                    if matched:
                        for gap, value in gaps(shown, min(matched, key=lambda p: distance(shown, p))):
                            rates[name][gap].append(value)
    return rates


def distance(one: np.ndarray, other: np.ndarray) -> float:
    """Return the median distance in pixels of the joints that two people (18, 3) have in common, infinite where there are none."""
    both = (one[:, 2] >= CONFIDENCE) & (other[:, 2] >= CONFIDENCE)
    return float(np.median(np.hypot(*(one - other)[both, :2].T))) if both.any() else float("inf")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print a table; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m controlnext.starter.remake.gaps", description=__doc__)
    parser.add_argument("folder", type=Path, help="folder of photographs of people")
    rates = measure(parser.parse_args(arguments).folder)
    if not rates:
        sys.stderr.write("Nobody was found in these photographs; give a folder of pictures that show people.\n")
        return 1
    names = ("nobody", "joint", "hips", "legs", "arm", "leg", "face_side", "jitter")
    sys.stdout.write(f"{'':6}" + "".join(f"{name:>16}" for name in names) + "\n")
    for kind in (*_REACH, "whole", "all"):
        cells = [rates[kind][name] for name in names]
        row = [f"{np.mean(c):.3f} of {len(c)}" if c else "-" for c in cells]
        sys.stdout.write(f"{kind:6}" + "".join(f"{cell:>16}" for cell in row) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
