"""The condition pictures of the starter's adapters, drawn from what the world knows exactly."""

import cv2
import numpy as np

from annotators.skeleton import draw_skeleton
from annotators.starter_net import PARTS_PALETTE
from controlnext.starter.world import Picture

CONDITIONS = ("canny", "depth", "pose", "segmentation")
# Thresholds of the canny annotator's defaults; training draws others around them, so that sliders are safe to move.
CANNY_THRESHOLDS = (100, 200)


def _canny(rgb: np.ndarray, rng: np.random.Generator | None) -> np.ndarray:
    low, high = CANNY_THRESHOLDS
    if rng is not None:
        low = int(rng.uniform(40, 130))
        high = int(low * rng.uniform(1.5, 2.5))
    return np.repeat(cv2.Canny(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), low, high)[..., None], 3, axis=2)


def condition(name: str, picture: Picture, rng: np.random.Generator | None = None) -> np.ndarray:
    """Draw a condition picture.

    Args:
        name: One of `CONDITIONS`.
        picture: A rendered scene of S x S pixels.
        rng: Varies the settings as a user would; None keeps the annotators' defaults.

    Returns:
        (S, S, 3) uint8 RGB.
    """
    if name == "canny":
        return _canny(np.ascontiguousarray(picture.rgb), rng)
    if name == "depth":
        return np.repeat((picture.depth * 255 + 0.5).astype(np.uint8)[..., None], 3, axis=2)
    if name == "pose":
        return draw_skeleton(picture.people, *picture.rgb.shape[:2])
    return PARTS_PALETTE[picture.parts]
