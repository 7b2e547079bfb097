"""Search of large pictures for many or small people: overlapping tiles in a pyramid, merged by their skeletons."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from annotators.weights.lite import Crop, Detection

STEP = 0.7  # side of the tiles of a level, as a share of those of the level above
SMALLEST = 0.24  # of the short side of the picture; a person of a tenth of it fills a third of such a tile
SMALLEST_PIXELS = 200  # below that a tile has no more to show than the one above it
OVERLAP = 0.5

_INSIDE = 0.9  # share of its radius by which a person may stick out of the tile it was found in
_SAME_PLACE = 0.5  # of the smaller radius: detections closer than this, and of like size, are one person
_SAME_SIZE = 1.8
_SEEN = 0.3  # confidence of a landmark
_SAME_BODY = 0.2  # of the smaller figure: skeletons whose joints are closer than this on average are one person


@dataclass(frozen=True)
class Candidate:
    """A detection and the circle around the person: from the middle of the hips to the end of the body."""

    find: Detection
    centre: np.ndarray
    radius: float

    @staticmethod
    def of(find: Detection) -> Candidate:
        """Return the candidate of a detection."""
        return Candidate(find, find.points[0], float(np.hypot(*(find.points[1] - find.points[0]))))

    def fits(self, tile: Crop, height: int, width: int) -> bool:
        """Return whether the person lies in the tile, apart from sides where the picture itself ends."""
        reach = self.radius * (1 - _INSIDE)
        low, high = tile.size / -2, tile.size / 2
        for at, middle, end in ((self.centre[0], tile.x, width), (self.centre[1], tile.y, height)):
            if at - reach < middle + low and middle + low > 0:
                return False
            if at + reach > middle + high and middle + high < end:
                return False
        return True

    def is_same(self, other: Candidate) -> bool:
        """Return whether another detection is of the same person."""
        small, large = sorted((self.radius, other.radius))
        apart = float(np.hypot(*(self.centre - other.centre)))
        return apart < _SAME_PLACE * small and large < _SAME_SIZE * small


def tiles(height: int, width: int) -> Iterator[list[Crop]]:
    """Yield the levels of a pyramid of square tiles, from the largest tiles to the smallest."""
    short = min(height, width)
    side = float(short)
    least = max(SMALLEST * short, SMALLEST_PIXELS)
    while side >= least or side == short:
        ys, xs = _middles(height, side), _middles(width, side)
        yield [Crop(x, y, side) for y in ys for x in xs]
        side *= STEP


def _middles(length: int, side: float) -> list[float]:
    """Return the middles of tiles that cover a length."""
    count = max(1, int(np.ceil((length - side) / (side * (1 - OVERLAP)) - 1e-6)) + 1)
    return [float(at) for at in np.linspace(side / 2, max(side / 2, length - side / 2), count)]


def merged(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Return one candidate a person, the surest first (non-maximum suppression of circles)."""
    kept: list[Candidate] = []
    for candidate in sorted(candidates, key=lambda one: -one.find.score):
        if not any(candidate.is_same(other) for other in kept):
            kept.append(candidate)
    return kept


def is_same_body(one: np.ndarray, other: np.ndarray) -> bool:
    """Return whether two skeletons (33, 3) are of one person (non-maximum suppression of skeletons)."""
    both = (one[:, 2] >= _SEEN) & (other[:, 2] >= _SEEN)
    if not both.any():
        return False
    apart = float(np.hypot(*(one[both, :2] - other[both, :2]).T).mean())
    return apart < _SAME_BODY * min(extent(one), extent(other))


def extent(landmarks: np.ndarray) -> float:
    """Return the diagonal of the box around the landmarks (33, 3) that are seen, in pixels."""
    seen = landmarks[landmarks[:, 2] >= _SEEN, :2]
    return max(1.0, float(np.hypot(*np.ptp(seen, axis=0)))) if len(seen) else 1.0
