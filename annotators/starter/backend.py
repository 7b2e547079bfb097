"""The starter net as a backend: depth, parts and pose of pictures in the starter model's own world."""

from __future__ import annotations

import importlib
import importlib.util
from typing import TYPE_CHECKING, Any

import numpy as np

from annotators.assets import STARTER_READER
from annotators.base import Availability, BackendMissing, Settings
from annotators.weights import fetch
from annotators.weights.loading import once

if TYPE_CHECKING:
    from types import ModuleType

NAME = "starter"
LABEL = "Starter net"
DOUBT = "The starter net was made for pictures drawn by the starter model; on a photo its answer is a rough guess."

_SEEN = 0.3
_JOINTS = 6  # seen by both, fewer say nothing
_NEAR = 0.08  # of the figure's diagonal: joints closer than this are the same place
_AGREEMENT = 0.75


def check() -> Availability:
    """Say whether the net's code, weights and torch are here."""
    if not STARTER_READER.is_file():
        return Availability(
            usable=False, reason="The starter net's weights (assets/starter/annotator) are not in this checkout."
        )
    if importlib.util.find_spec("torch") is None:
        return Availability(usable=False, reason="The package torch is not installed.")
    return Availability(usable=True)


def module() -> ModuleType:
    """Return the module of the net, imported on first use.

    Raises:
        BackendMissing: it is not part of this checkout.
    """
    try:
        return importlib.import_module("annotators.starter.net")
    except ModuleNotFoundError as error:
        raise BackendMissing(f"The starter net cannot be used: {error}.") from error


def read(rgb: np.ndarray, settings: Settings) -> Any:  # noqa: ANN401 - a `starter_net.Reading`, whose module imports torch
    """Read a picture (H, W, 3) uint8: parts (H, W) uint8, depth (H, W) float32 in [0, 1], people as (18, 3) arrays."""
    net = once("starter", lambda: module().load())
    return module().read(net, rgb.copy())  # torch wants an array it could write to


def is_own_world(rgb: np.ndarray) -> bool:
    """Say whether a picture (H, W, 3) uint8 is of the starter model's own world.

    Two nets are asked where the figure's joints are: MediaPipe, which knows people and drawings alike, and the starter net,
    which is lost outside its world. Where they agree, the picture is of that world.
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
