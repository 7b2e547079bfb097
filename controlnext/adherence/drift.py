"""Where a picture drifted from its condition: the places that its adherence score lost."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import cv2
import numpy as np
from PIL import Image

from controlnext.adherence.joints import joint_drift
from controlnext.adherence.score import EDGE_TOLERANCE
from controlnext.adherence.skeletons import joints_in_drawing
from controlnext.recipes.inputs import Annotated

JOINT_OFF = 0.1
"""Distance in figure heights from which a joint counts as wrong, as in the score."""

_RANK_OFF = 0.25  # of all ranks of depth
_JOINT_RADIUS = 0.12  # of the figure's height, around a wrong joint
_GROWN, _SPECK = 0.03, 0.002  # of the longer side, around what drifted; of the picture, below which it is left alone


def drift_map(kind: str, asked: Annotated, found: Annotated) -> np.ndarray:
    """Return where a picture does not show what was asked for.

    Args:
        kind: of the condition; one without a measure has drifted nowhere.
        asked: the condition in the size of the picture.
        found: the annotation of the picture.

    Returns:
        (H, W) bool in the size of `asked`.
    """
    width, height = asked.image.size
    return _MAPS[kind](asked, found) if kind in _MAPS else np.zeros((height, width), bool)


def drifted_regions(drift: np.ndarray, most: int = 8) -> list[np.ndarray]:
    """Join what drifted into regions with some room around each, the largest first.

    Args:
        drift: (H, W) bool.
        most: regions at most; the smaller ones are left out.

    Returns:
        (H, W) bool each; none overlap.
    """
    reach = max(1, round(_GROWN * max(drift.shape)))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    grown = cv2.dilate(drift.astype(np.uint8), disc)
    count, labels = cv2.connectedComponents(grown)
    regions = [labels == label for label in range(1, count)]
    regions = [region for region in regions if (region & drift).sum() >= _SPECK * drift.size]
    return sorted(regions, key=lambda region: -int((region & drift).sum()))[:most]


def _grey(image: Image.Image, like: Image.Image, resample: Image.Resampling) -> np.ndarray:
    image = image.convert("L")
    return np.asarray(image if image.size == like.size else image.resize(like.size, resample))


def _edges(asked: Annotated, found: Annotated) -> np.ndarray:
    one, other = (_grey(each.image, asked.image, Image.Resampling.NEAREST) > 127 for each in (asked, found))
    reach = max(1, round(EDGE_TOLERANCE * max(asked.image.size)))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    near_one, near_other = (cv2.dilate(each.astype(np.uint8), disc) > 0 for each in (one, other))
    wrong = (one & ~near_other) | (other & ~near_one)
    return np.asarray(cv2.dilate(wrong.astype(np.uint8), disc) > 0)  # lines of a pixel are areas


def _depth(asked: Annotated, found: Annotated) -> np.ndarray:
    maps = [_grey(each.image, asked.image, Image.Resampling.BILINEAR) for each in (asked, found)]
    ranks = []
    for each in maps:
        counts = np.bincount(each.ravel(), minlength=256)
        ranks.append(((np.cumsum(counts) - counts / 2) / each.size)[each])
    return np.asarray(np.abs(ranks[0] - ranks[1]) > _RANK_OFF)


def _parts(asked: Annotated, found: Annotated) -> np.ndarray:
    one = np.asarray(asked.image.convert("RGB"))
    other = found.image.convert("RGB")
    other = other if other.size == asked.image.size else other.resize(asked.image.size, Image.Resampling.NEAREST)
    return np.asarray((one != np.asarray(other)).any(axis=2))


def _pose(asked: Annotated, found: Annotated) -> np.ndarray:
    width, height = asked.image.size
    people = [_people(each, (width, height)) for each in (asked, found)]
    wrong = np.zeros((height, width), np.uint8)
    for person, distances in zip(people[0], joint_drift(*people), strict=True):
        shown = person[person[:, 2] > 0, :2]
        if not len(shown):
            continue
        tall = float(np.ptp(shown, axis=0).max())
        nearest = min(people[1], key=lambda other: _apart(person, other), default=None)
        for joint, distance in enumerate(distances):
            if distance is None or distance <= JOINT_OFF:
                continue
            for place in (person[joint], nearest[joint] if nearest is not None else None):
                if place is not None and place[2] > 0:
                    cv2.circle(wrong, (round(place[0]), round(place[1])), max(2, round(_JOINT_RADIUS * tall)), 1, -1)
    return wrong > 0


def _people(each: Annotated, size: tuple[int, int]) -> list[np.ndarray]:
    people = (each.data or {}).get("people")
    if people is None:
        people = joints_in_drawing(np.asarray(each.image.convert("RGB")))
    zoom = np.array([size[0] / each.image.width, size[1] / each.image.height, 1.0])
    return [np.asarray(person, dtype=np.float64).reshape(-1, 3)[:18] * zoom for person in people]


def _apart(one: np.ndarray, other: np.ndarray) -> float:
    both = (one[:, 2] > 0) & (other[:, 2] > 0)
    return float(np.linalg.norm(one[both, :2] - other[both, :2], axis=1).mean()) if both.any() else np.inf


_MAPS: Mapping[str, Callable[[Annotated, Annotated], np.ndarray]] = MappingProxyType(
    {"canny": _edges, "depth": _depth, "pose": _pose, "segmentation": _parts}
)
