"""The `figure` backend of the depth and segmentation annotators; it imports `figure` on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from annotators.base import BackendMissing, NobodyFound, Settings
from annotators.weights import fetch

if TYPE_CHECKING:
    from annotators.starter.figure import Scene

NAME = "figure"


def read(rgb: np.ndarray, settings: Settings) -> Scene:
    """Read a picture (H, W, 3) uint8; depth and segmentation draw the same reading."""
    from annotators.starter.figure import draw_scene

    return draw_scene(rgb)


def sees_somebody(rgb: np.ndarray) -> bool:
    """Return whether there is a person in a picture (H, W, 3) uint8; False if the models are missing."""
    try:
        fetch.ensure()
    except BackendMissing:
        return False
    from annotators.poses.blazepose import find_people

    return bool(find_people(rgb, 1))


def require_people(scene: Scene) -> None:
    """Refuse a scene with nobody in it.

    Raises:
        NobodyFound: there is nobody.
    """
    if not scene.people:
        raise NobodyFound(
            "No person was found in this picture, and this backend draws nothing else: choose another one."
        )
