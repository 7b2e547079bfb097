"""How far each joint of a result is from where it was asked for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from controlnext.adherence.skeletons import VISIBLE

LOST = 1.0
"""Distance of a joint that the result does not show, in figure heights."""


def joint_drift(asked: Sequence[np.ndarray], found: Sequence[np.ndarray]) -> list[list[float | None]]:
    """Measure each joint that was asked for.

    Each asked person is compared with the found person that is nearest to it and not taken yet.

    Args:
        asked: (18, 3) arrays of x, y in pixels and confidence in [0, 1].
        found: same.

    Returns:
        One list a person: for each joint the distance in heights of the asked figure (the longer side of the box around its
        shown joints), at most `LOST`, which also stands for a joint that was not found; None where it was not asked for.
    """
    people = [np.asarray(person, dtype=np.float64) for person in asked]
    left = [np.asarray(person, dtype=np.float64) for person in found]
    rows: list[list[float | None]] = []
    for person in people:
        best = min(left, key=lambda other: float(np.mean(_distances(person, other))), default=None)
        if best is not None:
            left = [other for other in left if other is not best]
        distances = np.full(len(person), LOST) if best is None else _distances(person, best)
        shown = _shown(person)
        rows.append([round(float(value), 4) if seen else None for value, seen in zip(distances, shown, strict=True)])
    return rows


def _shown(person: np.ndarray) -> np.ndarray:
    return np.asarray(np.isfinite(person).all(axis=1) & (person[:, 2] >= VISIBLE))


def _distances(asked: np.ndarray, found: np.ndarray) -> np.ndarray:
    """(18,) distances in figure heights, `LOST` where one of both is not shown."""
    shown = _shown(asked)
    if not shown.any():
        return np.full(len(asked), LOST)
    places = asked[shown, :2]
    height = max(float(np.ptp(places, axis=0).max()), 1.0)
    distances = np.full(len(asked), LOST)
    both = shown & _shown(found)
    distances[both] = np.minimum(np.linalg.norm(asked[both, :2] - found[both, :2], axis=1) / height, LOST)
    return distances
