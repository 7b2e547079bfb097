"""What is measured of pictures of people: joints followed, heads counted, colours kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from annotators.poses.skeleton import CONFIDENCE
from controlnext.adherence.score import pose_pck

if TYPE_CHECKING:
    from annotators.starter.net import SceneReading

HEAD_SHARE = 0.002
"""A head covers at least this share of a picture, or it is a speck."""

ENOUGH = 60
"""Pixels of a part that its colour is read from, at least."""

COLOUR_TOLERANCE = 20.0
"""Distance in CIELAB up to which a part has the colour that was asked for; neighbouring names of clothes are 30 and more apart."""


def count_heads(parts: np.ndarray, names: tuple[str, ...]) -> int:
    """Count the heads in a map of parts: connected pieces of face, hair and hat that hold some of a face or are hair from behind.

    Args:
        parts: (H, W) indices into `names`.
        names: names of the parts, `face` and `hair` among them.
    """
    wanted = [names.index(name) for name in ("face", "hair", "hat", "glasses") if name in names]
    mask = np.isin(parts, wanted).astype(np.uint8)
    reach = max(1, round(min(parts.shape) / 85))
    mask = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((reach, reach), np.uint8))
    count, _, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    return int((stats[1:count, cv2.CC_STAT_AREA] >= HEAD_SHARE * mask.size).sum())


def each_followed(asked: np.ndarray, found: list[np.ndarray], bar: float = 0.5) -> bool:
    """Whether each person asked for, (n, 18, 3), is followed by one of those found with PCK@0.1 of at least `bar`."""
    if len(found) < len(asked):
        return False
    free = list(found)
    for person in asked:
        scores = [pose_pck([person], [other]) for other in free]
        best = int(np.nanargmax(scores)) if np.isfinite(scores).any() else -1
        if best < 0 or scores[best] < bar:
            return False
        free.pop(best)
    return True


def shown(people: np.ndarray, least: int = 4) -> np.ndarray:
    """Return the people of (n, 18, 3) of whom at least `least` joints are in the picture."""
    people = np.asarray(people, np.float64).reshape(-1, 18, 3)
    return people[(people[..., 2] >= CONFIDENCE).sum(1) >= least]


def same_colour(one: np.ndarray, other: np.ndarray, mask_one: np.ndarray, mask_other: np.ndarray) -> bool | None:
    """Whether a part has the same colour in two pictures; None where either shows fewer than `ENOUGH` pixels of it.

    Args:
        one: (H, W, 3) uint8 RGB.
        other: the same.
        mask_one: (H, W) bool, the part in the first.
        mask_other: the same in the second.
    """
    if min(mask_one.sum(), mask_other.sum()) < ENOUGH:
        return None
    labs = []
    for rgb, mask in ((one, mask_one), (other, mask_other)):
        lab = cv2.cvtColor(np.ascontiguousarray(rgb).astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
        labs.append(np.median(lab[mask], axis=0))
    # Light and shade move lightness most: it counts half.
    return bool(np.linalg.norm((labs[0] - labs[1]) * np.array([0.5, 1, 1])) <= COLOUR_TOLERANCE)


@dataclass(frozen=True)
class PersonReader:
    """Reads parts with a starter's own net and joints with MediaPipe, which knows people and drawings alike."""

    network: object
    names: tuple[str, ...]

    @staticmethod
    def of(assets: object) -> PersonReader:
        """Load the net that belongs to a starter's folder: the bundled one's, or the next one's with its own parts."""
        from pathlib import Path

        from annotators.starter import net
        from controlnext.starter.remake.reader import WEIGHTS, load_reader
        from controlnext.starter.scenes.palette import PARTS

        folder = Path(str(assets)) / "annotator"
        if (folder / WEIGHTS).exists():
            return PersonReader(load_reader(folder), PARTS)
        return PersonReader(net.bundled(), net.PARTS)

    def read(self, rgb: np.ndarray) -> SceneReading:
        """Read parts, depth and the most prominent person of a picture (H, W, 3) uint8 with the starter's own reader."""
        from annotators.starter.net import read

        return read(self.network, rgb.copy())

    @staticmethod
    def people(rgb: np.ndarray) -> list[np.ndarray]:
        """Return the joints of the people of a picture, (18, 3) each, in pixels; none where nobody is found."""
        from PIL import Image

        from annotators import AnnotatorError, annotate

        try:
            found = annotate("pose", Image.fromarray(rgb), resolution=min(rgb.shape[:2]), backend="mediapipe")
        except AnnotatorError:
            return []
        return [np.asarray(person, np.float64).reshape(18, 3) for person in (found.data or {}).get("people", [])]
