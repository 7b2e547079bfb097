"""The condition pictures of the starter's adapters, drawn from what the world knows exactly."""

import numpy as np

from annotators.canny import find_edges
from annotators.poses.skeleton import draw_skeleton
from annotators.starter.net import PARTS_PALETTE
from controlnext.starter.scenes.conditions import read_people, worn
from controlnext.starter.world.world import Picture

_AS_READ = 0.7  # share of skeletons with the gaps and the jitter that readers of photographs leave
CONDITIONS = ("canny", "depth", "pose", "segmentation")


def _canny(rgb: np.ndarray, rng: np.random.Generator | None) -> np.ndarray:
    if rng is None:
        edges = find_edges(rgb)
    else:
        rgb = worn(rgb, rng) if rng.random() < 0.5 else rgb
        low = int(rng.uniform(40, 130))
        edges = find_edges(rgb, low=low, high=int(low * rng.uniform(1.5, 2.5)))
    return np.repeat(edges.map[..., None], 3, axis=2)


def condition(name: str, picture: Picture, rng: np.random.Generator | None = None) -> np.ndarray:
    """Draw a condition picture.

    Args:
        name: One of `CONDITIONS`.
        picture: A rendered scene of S x S pixels.
        rng: Varies the settings as a user would, and damages what photographs and readers damage; None keeps the
            annotators' defaults and the exact skeleton.

    Returns:
        (S, S, 3) uint8 RGB.
    """
    if name == "canny":
        return _canny(np.ascontiguousarray(picture.rgb), rng)
    if name == "depth":
        return np.repeat((picture.depth * 255 + 0.5).astype(np.uint8)[..., None], 3, axis=2)
    if name == "pose":
        people = picture.people
        if rng is not None and rng.random() < _AS_READ:
            people = read_people(people, rng)
        return draw_skeleton(people, *picture.rgb.shape[:2])
    return PARTS_PALETTE[picture.parts]
