"""The condition pictures of the starter's adapters, drawn from what the world knows exactly."""

import numpy as np

from annotators.canny import find_edges
from annotators.poses.skeleton import draw_skeleton
from annotators.starter.net import PARTS_PALETTE
from controlnext.starter.world.world import Picture

CONDITIONS = ("canny", "depth", "pose", "segmentation")


def _canny(rgb: np.ndarray, rng: np.random.Generator | None) -> np.ndarray:
    if rng is None:
        edges = find_edges(rgb)
    else:
        low = int(rng.uniform(40, 130))
        edges = find_edges(rgb, low=low, high=int(low * rng.uniform(1.5, 2.5)))
    return np.repeat(edges.map[..., None], 3, axis=2)


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
