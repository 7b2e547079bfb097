"""Faces and hands of people, as circles: from their own points where these were read, else from the joints of the body."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

_HEAD = (0, 14, 15, 16, 17)  # nose, eyes and ears, as OpenPose numbers 18 joints
_ARMS = ((3, 4), (6, 7))  # elbow and wrist
_SEEN = 0.3  # confidence of a joint that counts
_BEYOND, _HAND, _FACE = 0.25, 0.45, 1.3  # hand: centre beyond the wrist and radius, by forearm; face: radius by spread


class PartCircle(NamedTuple):
    """A circle around a part of a body.

    Attributes:
        centre: x and y in pixels, (2,).
        radius: in pixels.
    """

    centre: np.ndarray
    radius: float


def faces(person: np.ndarray) -> Iterator[PartCircle]:
    """Yield the face of a person `(18, 3)`: x, y, confidence; nothing where fewer than two of its joints are seen."""
    head = person[list(_HEAD)]
    head = head[head[:, 2] > _SEEN, :2]
    if len(head) > 1:
        centre = head.mean(0)
        yield PartCircle(centre, _FACE * float(np.linalg.norm(head - centre, axis=1).max()))


def hands(person: np.ndarray) -> Iterator[PartCircle]:
    """Yield the hands of a person `(18, 3)` whose elbow and wrist are seen."""
    for elbow, wrist in person[np.array(_ARMS)]:
        if elbow[2] > _SEEN and wrist[2] > _SEEN:
            forearm = wrist[:2] - elbow[:2]
            yield PartCircle(wrist[:2] + _BEYOND * forearm, _HAND * float(np.linalg.norm(forearm)))


def parts_of_people(data: Mapping[str, Any] | None, part: str) -> list[PartCircle]:
    """Find the faces or the hands of the people of a pose annotation.

    Args:
        data: of the annotation: `people`, and `faces` and `hands` where they were read.
        part: `face` or `hands`.

    Returns:
        Circles, the largest first.
    """
    data = data or {}
    rows = data.get("faces" if part == "face" else "hands") or []
    found: list[PartCircle] = []
    for index, person in enumerate(data.get("people") or []):
        points = rows[index] if index < len(rows) else None
        sets = [points] if part == "face" else list(points or [])
        own = [one for one in map(_around, sets) if one is not None]
        found += own or (faces if part == "face" else hands)(np.asarray(person, float).reshape(-1, 3))
    return sorted(found, key=lambda circle: -circle.radius)


def _around(points: Sequence[Sequence[float]] | None) -> PartCircle | None:
    """Return the circle around points `(n, 3)` that are seen; None for fewer than three."""
    seen = np.asarray([] if points is None else points, float).reshape(-1, 3)
    seen = seen[seen[:, 2] > _SEEN, :2]
    if len(seen) < 3:
        return None
    centre = (seen.min(0) + seen.max(0)) / 2
    return PartCircle(centre, float(np.linalg.norm(seen - centre, axis=1).max()))
