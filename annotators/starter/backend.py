"""The starter net as a backend: depth, parts and pose of pictures drawn by the starter model."""

from __future__ import annotations

import importlib.util

import numpy as np

from annotators.assets import STARTER_READER
from annotators.base import Availability, Settings
from annotators.starter import net
from annotators.weights import fetch
from annotators.weights.loading import once

NAME = "starter"
LABEL = "Starter net"
DOUBT = "The starter net was made for pictures drawn by the starter model; on a photo its answer is a rough guess."

_SEEN = 0.3
_FLAT_SIDE, _FLAT_STEP = 256, 2  # short side in pixels that is looked at; difference of neighbours that is no edge
_FLAT = 0.7  # share of such neighbours: 0.75 to 0.9 in pictures of the starter, 0.2 to 0.4 in photographs of people
_JOINTS = 6  # seen by both, fewer say nothing
_NEAR = 0.08  # of the figure's diagonal: joints closer than this are the same place
_AGREEMENT = 0.75


def check() -> Availability:
    """Return whether the net's weights and torch are available."""
    if not STARTER_READER.is_file():
        return Availability(
            usable=False, reason="The starter net's weights (assets/starter/annotator) are not in this checkout."
        )
    if importlib.util.find_spec("torch") is None:
        return Availability(usable=False, reason="The package torch is not installed.")
    return Availability(usable=True)


def read(rgb: np.ndarray, settings: Settings) -> net.SceneReading:
    """Read a picture (H, W, 3) uint8: parts (H, W) uint8, depth (H, W) float32 in [0, 1], people as (18, 3) arrays."""
    return net.read(once("starter", net.load), rgb.copy())  # torch requires a writable array


def is_flat(rgb: np.ndarray) -> bool:
    """Return whether a picture (H, W, 3) uint8 has the smooth areas of a drawing; quick, and no photograph of people has."""
    import cv2

    scale = min(1.0, _FLAT_SIDE / min(rgb.shape[:2]))
    small = cv2.resize(rgb, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).astype(np.int16)
    steps = np.maximum(np.abs(np.diff(grey, axis=0))[:, :-1], np.abs(np.diff(grey, axis=1))[:-1])
    return float((steps <= _FLAT_STEP).mean()) >= _FLAT


def is_own_world(rgb: np.ndarray) -> bool:
    """Return whether a picture (H, W, 3) uint8 was drawn by the starter model.

    Both MediaPipe, which reads people and drawings alike, and the starter net, which fails outside its world, locate the
    figure's joints. Where they agree, the picture is of that world.
    """
    if fetch.missing() or importlib.util.find_spec("ai_edge_litert") is None:
        return False
    from annotators.poses.blazepose import find_people
    from annotators.poses.openpose import body_points

    known = read(rgb, {}).people
    if not known:
        return False
    people = find_people(rgb, 1)
    return bool(people) and _agree(np.asarray(known[0]), body_points(people[0].landmarks, people[0].depths))


def _agree(one: np.ndarray, other: np.ndarray) -> bool:
    both = (one[:, 2] >= _SEEN) & (other[:, 2] >= _SEEN)
    if both.sum() < _JOINTS:
        return False
    size = float(np.hypot(*np.ptp(other[both, :2], axis=0)))
    apart = np.hypot(*(one[both, :2] - other[both, :2]).T)
    return float((apart <= _NEAR * size).mean()) >= _AGREEMENT
