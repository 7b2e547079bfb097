"""A photo redrawn in the starter's world: parts of people and their depth, on flat ground under a sky.

No weights for depth or parts of photos come with any package, but MediaPipe locates people and their joints.
From that this draws what the starter's adapters can read: each pixel of a person goes to the nearest part of their body, and
the ground rises to a horizon at the height of a camera held at the waist. It is a drawing, not a measurement; its notes state that.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from annotators.poses.blazepose import Found, find_people
from annotators.poses.person import find_person

_SEEN = 0.3
_MOST_PEOPLE = 4
_SLEEVE = 0.75  # share of the upper arm that a sleeve covers
_TORSO_OF_SHOULDERS = 1.45  # length of a torso by the width of its shoulders, where the hips are not seen
_TORSO_OF_HEAD = 2.1  # and by the width of the head, for people seen from the side
_LEGS_OF_TORSO = 1.75
_HORIZON = 0.55  # of the way from shoulders to hips: a camera held at the waist
_HORIZON_RANGE = (0.3, 0.9)  # of the picture's height, so that there is always sky and ground
_NEAREST = 0.95  # nearness of the nearest person
_REACH = 3.2  # radii of a body part beyond which a pixel of the mask is no longer the person
_CRUMB = 0.03  # share of the largest piece below which a piece of a mask is dropped
_LABEL_SIDE = 256  # parts are separated at this short side; their outline follows the mask at full size
_ROUND = 0.04  # how much nearer the middle of a body is than its rim


@dataclass(frozen=True)
class Scene:
    """Parts (H, W) uint8 by name in `PARTS`, and nearness (H, W) float32 in [0, 1]; no people means neither is drawn."""

    parts: np.ndarray
    near: np.ndarray
    people: int


_NOBODY = 255
_SHOULDERS, _HIPS, _KNEES = [11, 12], [23, 24], [25, 26]

PARTS = ("sky", "ground", "face", "limb", "hair", "shirt", "trousers", "shoes")

_LIMBS: tuple[tuple[str, int, int, float, float, float], ...] = (
    # part, from and to landmark, beginning and end along the way, radius in torsos
    ("shirt", 11, 12, 0.0, 1.0, 0.20),
    ("shirt", 11, 23, 0.0, 0.92, 0.26),
    ("shirt", 12, 24, 0.0, 0.92, 0.26),
    ("shirt", 11, 24, 0.0, 0.90, 0.26),
    ("shirt", 12, 23, 0.0, 0.90, 0.26),
    ("shirt", 11, 13, 0.0, _SLEEVE, 0.15),
    ("shirt", 12, 14, 0.0, _SLEEVE, 0.15),
    ("limb", 11, 13, _SLEEVE, 1.0, 0.13),
    ("limb", 12, 14, _SLEEVE, 1.0, 0.13),
    ("limb", 13, 15, 0.0, 1.0, 0.12),
    ("limb", 14, 16, 0.0, 1.0, 0.12),
    ("limb", 15, 19, 0.0, 1.3, 0.12),
    ("limb", 16, 20, 0.0, 1.3, 0.12),
    ("trousers", 23, 24, 0.0, 1.0, 0.20),
    ("trousers", 23, 25, 0.0, 1.0, 0.20),
    ("trousers", 24, 26, 0.0, 1.0, 0.20),
    ("trousers", 25, 27, 0.0, 0.95, 0.16),
    ("trousers", 26, 28, 0.0, 0.95, 0.16),
    ("shoes", 27, 29, 0.2, 1.0, 0.09),
    ("shoes", 28, 30, 0.2, 1.0, 0.09),
    ("shoes", 29, 31, 0.0, 1.0, 0.10),
    ("shoes", 30, 32, 0.0, 1.0, 0.10),
)


def draw_scene(rgb: np.ndarray) -> Scene:
    """Draw the scene of a photo (H, W, 3) uint8."""
    height, width = rgb.shape[:2]
    people = find_people(rgb, _MOST_PEOPLE)
    if not people:
        return Scene(np.zeros((height, width), np.uint8), np.zeros((height, width), np.float32), 0)
    bodies = [(person, mask, _Frame.of(person)) for person, mask in zip(people, _masks(rgb, people), strict=True)]
    bodies.sort(key=lambda body: body[2].torso)  # the smaller, more distant ones first
    nearest = bodies[-1][2]
    horizon = float(np.clip(nearest.horizon, _HORIZON_RANGE[0] * height, _HORIZON_RANGE[1] * height))
    rows = np.arange(height, dtype=np.float32)[:, None]
    ground = _NEAREST * (rows - horizon) / max(nearest.feet - horizon, 0.5 * nearest.torso)
    parts = np.repeat(np.where(rows < horizon, 0, PARTS.index("ground")).astype(np.uint8), width, axis=1)
    near = np.repeat(np.maximum(ground, 0).astype(np.float32), width, axis=1)
    for person, mask, frame in bodies:
        labels = _parts(person, frame, height, width)
        body = _without_crumbs(mask & (labels != _NOBODY))
        distance = _NEAREST * frame.torso / nearest.torso - _ROUND * (1 - _roundness(body, frame))
        parts[body] = labels[body]
        near[body] = np.maximum(distance, 0)[body]
    return Scene(parts, near / max(1.0, float(near.max())), len(people))


def _without_crumbs(mask: np.ndarray) -> np.ndarray:
    """Drop the pieces of a mask that are tiny compared with its largest one."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    if count < 2:
        return mask
    areas = stats[:, cv2.CC_STAT_AREA].copy()
    areas[0] = 0
    return np.asarray((areas >= _CRUMB * areas.max())[labels] & mask)


def _masks(rgb: np.ndarray, people: list[Found]) -> list[np.ndarray]:
    """Return where each person is; for one person near the camera the finer mask that follows the picture's edges."""
    if len(people) == 1:
        fine = find_person(rgb).mask > 0.5
        coarse = people[0].mask > 0.5
        if (fine & coarse).sum() > 0.7 * coarse.sum():
            return [fine]
    return [person.mask > 0.5 for person in people]


@dataclass(frozen=True)
class _Frame:
    """How large a person is, and where they stand: lengths and rows in pixels."""

    torso: float
    horizon: float
    feet: float
    hips: np.ndarray

    @staticmethod
    def of(person: Found) -> _Frame:
        points, seen = person.landmarks[:, :2], person.landmarks[:, 2] >= _SEEN
        shoulders, hips = points[_SHOULDERS].mean(axis=0), points[_HIPS].mean(axis=0)
        head = math.hypot(math.dist(points[7], points[8]), (person.depths[7] - person.depths[8]) / 2)
        torso = max(_TORSO_OF_SHOULDERS * math.dist(points[11], points[12]), _TORSO_OF_HEAD * head, 1.0)
        if seen[_HIPS].all():
            torso = max(math.dist(shoulders, hips), 1.0)
        else:
            hips = shoulders + np.array([0.0, torso])
        ankles = [points[i, 1] for i in (27, 28, 31, 32) if seen[i]]
        feet = max(ankles) if ankles else hips[1] + _LEGS_OF_TORSO * torso
        return _Frame(torso, float(shoulders[1] + _HORIZON * (hips[1] - shoulders[1])), float(feet), hips)

    def completed(self, landmarks: np.ndarray) -> np.ndarray:
        """Return landmarks (33, 3) with unseen hips and knees put where they are on somebody who stands."""
        points = landmarks.copy()
        if (points[_HIPS, 2] < _SEEN).any():
            shoulders = points[_SHOULDERS, :2]
            points[_HIPS, :2] = self.hips + 0.6 * (shoulders - shoulders.mean(axis=0))
            points[_HIPS, 2] = 1.0
        for hip, knee in zip(_HIPS, _KNEES, strict=True):
            if points[knee, 2] < _SEEN:
                points[knee] = (*(points[hip, :2] + (0.0, 0.9 * self.torso)), 1.0)
        return points


def _parts(person: Found, frame: _Frame, height: int, width: int) -> np.ndarray:
    """Return the nearest part of a person's body for every pixel, (H, W) uint8; `_NOBODY` out of reach."""
    step = max(1, min(height, width) // _LABEL_SIDE)
    ys, xs = np.mgrid[0:height:step, 0:width:step].astype(np.float32)
    nearest = np.full(ys.shape, _REACH, np.float32)
    parts = np.full(ys.shape, _NOBODY, np.uint8)

    def claim(part: str, distance: np.ndarray) -> None:
        closer = distance < nearest
        nearest[closer] = distance[closer]
        parts[closer] = PARTS.index(part)

    points = frame.completed(person.landmarks)
    for part, a, b, begin, end, radius in _LIMBS:
        if min(points[a, 2], points[b, 2]) >= _SEEN:
            way = points[b, :2] - points[a, :2]
            start, stop = points[a, :2] + begin * way, points[a, :2] + end * way
            claim(part, _to_line(xs, ys, start, stop) / (radius * frame.torso))
    _claim_head(person, frame, xs, ys, claim)
    return cv2.resize(parts, (width, height), interpolation=cv2.INTER_NEAREST) if step > 1 else parts


def _claim_head(
    person: Found, frame: _Frame, xs: np.ndarray, ys: np.ndarray, claim: Callable[[str, np.ndarray], None]
) -> None:
    """Claim face, neck and hair: an oval around eyes and mouth, the way down to the shoulders, and all that is above."""
    points = person.landmarks[:, :2]
    eyes, mouth, ears = points[[2, 5]].mean(axis=0), points[[9, 10]].mean(axis=0), points[[7, 8]]
    down = mouth - eyes
    length = max(math.hypot(*down), 0.08 * frame.torso)
    down = down / max(math.hypot(*down), 1e-6)
    across = np.array([down[1], -down[0]])
    half_width = max(0.5 * abs(float((ears[0] - ears[1]) @ across)), 0.85 * length)
    centre = eyes + 0.45 * length * down + 0.5 * (ears.mean(axis=0) - eyes) @ across * across
    side = (xs - centre[0]) * across[0] + (ys - centre[1]) * across[1]
    drop = (xs - centre[0]) * down[0] + (ys - centre[1]) * down[1]
    face = np.hypot(side / (1.02 * half_width), drop / (1.5 * length))
    crown = np.hypot(side / (1.5 * half_width), (drop + 0.9 * length) / (2.2 * length))
    claim("face", 0.6 * face)
    claim("hair", np.maximum(crown, 0.601))
    neck = points[[11, 12]].mean(axis=0)
    claim("face", _to_line(xs, ys, mouth, mouth + 0.8 * (neck - mouth)) / (0.14 * frame.torso))


def _to_line(xs: np.ndarray, ys: np.ndarray, start: np.ndarray, stop: np.ndarray) -> np.ndarray:
    """Return each pixel's distance to the line between two places."""
    way = stop - start
    along = np.clip(((xs - start[0]) * way[0] + (ys - start[1]) * way[1]) / max(float(way @ way), 1e-6), 0, 1)
    return np.asarray(np.hypot(xs - start[0] - along * way[0], ys - start[1] - along * way[1]))


def _roundness(mask: np.ndarray, frame: _Frame) -> np.ndarray:
    """Return 1 in the middle of a body falling to 0 at its rim."""
    inner = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 3)
    return np.asarray(np.sqrt(np.clip(inner / (0.3 * frame.torso), 0, 1)))
