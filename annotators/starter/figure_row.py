"""What the depth and segmentation rows share of `figure`, without importing it before it is asked."""

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
    """Say whether there is a person in a picture (H, W, 3) uint8; nobody if the models for that cannot be had."""
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
