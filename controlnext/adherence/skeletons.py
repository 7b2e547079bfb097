"""Joints read from a drawn skeleton.

A condition picture may come without its keypoints: dropped back into the app, drawn elsewhere, uploaded as it is. The
drawing itself shows the joints: each is a dot in its own colour, brighter than any limb.
"""

from __future__ import annotations

import colorsys

import numpy as np

JOINTS = 18
VISIBLE = 0.3
"""Confidence from which a joint counts as shown, the threshold of the released pose checkpoints' preprocessing."""

# Colours and sizes of the drawing, as in lllyasviel/ControlNet `annotator/openpose/util.py`: joints at full brightness,
# limbs dimmed to 0.6, dots with a radius of 4 px where the short side has 512.
_BRIGHT = 170
_DOT_RADIUS = 4 / 512
_COLOURS = np.array([colorsys.hsv_to_rgb(joint / JOINTS, 1, 1) for joint in range(JOINTS)]) * 255
_CLOSE = 90.0  # distance in RGB at which a pixel no longer counts for a colour; neighbouring joints are 85 apart
_DOT_SHOWN = 0.25  # part of a dot that must be seen; what is left at a rim where two colours mix is less
_DOTS_AT_MOST = 0.1  # of the picture; more bright colour than this is a photo, not a drawing of joints


def joints_in_drawing(drawing: np.ndarray) -> list[np.ndarray]:
    """Find the people in an OpenPose-18 drawing.

    Args:
        drawing: RGB picture (H, W, 3), uint8, limbs dimmed and joints in full colour.

    Returns:
        One (18, 3) array a person: x, y in pixels and confidence 1 where a dot was found, 0 elsewhere. With several
        people, each dot goes to the person whose dots so far are nearest.
    """
    picture = np.asarray(drawing, dtype=np.float64)
    bright = picture.max(axis=2)
    ys, xs = np.nonzero((bright >= _BRIGHT) & (bright - picture.min(axis=2) >= _CLOSE))
    if not 0 < len(xs) <= _DOTS_AT_MOST * bright.size:
        return []
    distance = np.linalg.norm(picture[ys, xs, None] - _COLOURS, axis=-1)
    joints, likeness = distance.argmin(axis=1), 1 - distance.min(axis=1) / _CLOSE
    radius = max(1.0, _DOT_RADIUS * min(bright.shape))
    dots = []
    for joint in range(JOINTS):
        mine = (joints == joint) & (likeness > 0)
        places = _clusters(xs[mine], ys[mine], likeness[mine], radius)
        if places:
            dots.append((joint, places))
    if not dots:
        return []
    count = round(float(np.median([len(places) for _, places in dots])))  # one stray dot makes no person
    dots.sort(key=lambda entry: (-min(count, len(entry[1])), entry[0]))
    people: list[np.ndarray] = []
    for joint, places in dots:
        for place in places[:count]:
            _give(people, joint, place)
    return people


def _clusters(xs: np.ndarray, ys: np.ndarray, weights: np.ndarray, radius: float) -> list[tuple[float, float]]:
    """Weighted centres of the dots of one colour, fullest first; a pixel too far from every dot starts another."""
    groups: list[list[float]] = []  # sums of weight * x, weight * y, weight
    for x, y, weight in zip(xs.tolist(), ys.tolist(), weights.tolist(), strict=True):
        for group in groups:
            if (x - group[0] / group[2]) ** 2 + (y - group[1] / group[2]) ** 2 <= (2.5 * radius) ** 2:
                group[:] = group[0] + weight * x, group[1] + weight * y, group[2] + weight
                break
        else:
            groups.append([weight * x, weight * y, weight])
    seen = _DOT_SHOWN * np.pi * radius**2
    groups.sort(key=lambda group: -group[2])
    return [(x / mass, y / mass) for x, y, mass in groups if mass >= seen]


def _give(people: list[np.ndarray], joint: int, place: tuple[float, float]) -> None:
    free = [person for person in people if person[joint, 2] == 0]
    if not free:
        people.append(np.zeros((JOINTS, 3)))
        free = [people[-1]]
    nearest = min(free, key=lambda person: _distance(person, place))
    nearest[joint] = (*place, 1.0)


def _distance(person: np.ndarray, place: tuple[float, float]) -> float:
    shown = person[person[:, 2] > 0, :2]
    return float(np.linalg.norm(shown - place, axis=1).min()) if len(shown) else np.inf
