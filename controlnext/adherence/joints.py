"""How far each joint of a result is from where it was asked for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from controlnext.adherence.skeletons import VISIBLE

LOST = 1.0
"""Distance of a joint that the result does not show, in figure heights."""


def joint_drift(asked: Sequence[np.ndarray], found: Sequence[np.ndarray]) -> list[list[float | None]]:
    """Measure each joint that was asked for.

    People are compared as `paired` gives them.

    Args:
        asked: (18, 3) arrays of x, y in pixels and confidence in [0, 1].
        found: same.

    Returns:
        One list a person: for each joint the distance in heights of the asked figure (the longer side of the box around its
        shown joints), at most `LOST`, which also stands for a joint that was not found; None where it was not asked for.
    """
    rows: list[list[float | None]] = []
    for person, best in paired(asked, found):
        distances = np.full(len(person), LOST) if best is None else _distances(person, best)
        shown = shown_joints(person)
        rows.append([round(float(value), 4) if seen else None for value, seen in zip(distances, shown, strict=True)])
    return rows


def paired(asked: Sequence[np.ndarray], found: Sequence[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray | None]]:
    """Give asked people found ones, the nearest two first; None to those for whom nobody is left."""
    people = [np.asarray(person, dtype=np.float64) for person in asked]
    others = [np.asarray(person, dtype=np.float64) for person in found]
    away = {
        (row, column): float(np.mean(_distances(person, other)))
        for row, person in enumerate(people)
        for column, other in enumerate(others)
    }
    given: dict[int, np.ndarray] = {}
    while away:
        row, column = min(away, key=away.__getitem__)
        given[row] = others[column]
        away = {pair: value for pair, value in away.items() if pair[0] != row and pair[1] != column}
    return [(person, given.get(row)) for row, person in enumerate(people)]


def shown_joints(person: np.ndarray) -> np.ndarray:
    """Return which of the (18, 3) joints of a person are shown, (18,) bool."""
    return np.asarray(np.isfinite(person).all(axis=1) & (person[:, 2] >= VISIBLE))


def _distances(asked: np.ndarray, found: np.ndarray) -> np.ndarray:
    """(18,) distances in figure heights, `LOST` where one of both is not shown."""
    shown = shown_joints(asked)
    if not shown.any():
        return np.full(len(asked), LOST)
    places = asked[shown, :2]
    height = max(float(np.ptp(places, axis=0).max()), 1.0)
    distances = np.full(len(asked), LOST)
    both = shown & shown_joints(found)
    distances[both] = np.minimum(np.linalg.norm(asked[both, :2] - found[both, :2], axis=1) / height, LOST)
    return distances
