"""Where people are: MediaPipe's selfie mask for people near the camera, BlazePose's masks for people far from it."""

from __future__ import annotations

import cv2
import numpy as np

from annotators.lite import model

_FAR = 0.10  # share of the picture below which the selfie mask, made for near people, is not trusted
_SURE = 0.5
_MOST_PEOPLE = 4
_EDGE_RADIUS = 1 / 96  # of the short side: how far an edge of the coarse mask may be from the edge in the picture
_EDGE_SMOOTHING = 1e-3


def find_person(rgb: np.ndarray) -> np.ndarray:
    """Return how surely each pixel belongs to a person.

    Args:
        rgb: picture (H, W, 3), uint8.

    Returns:
        (H, W) float32 in [0, 1]; all zero where nobody is.
    """
    height, width = rgb.shape[:2]
    net = model("selfie_segmentation")
    small = cv2.resize(
        rgb, (net.size, net.size), interpolation=cv2.INTER_AREA if min(height, width) > net.size else cv2.INTER_LINEAR
    )
    mask = net(small / 255.0)["activation_10"][..., 0]
    if float((mask > _SURE).mean()) < _FAR:
        far = _far_people(rgb)
        if far is not None:
            return far
    return _along_edges(cv2.resize(mask, (width, height), interpolation=cv2.INTER_LINEAR), rgb)


def _far_people(rgb: np.ndarray) -> np.ndarray | None:
    from annotators.blazepose import find_people

    people = find_people(rgb, _MOST_PEOPLE)
    return np.max([person.mask for person in people], axis=0) if people else None


def _along_edges(mask: np.ndarray, rgb: np.ndarray) -> np.ndarray:
    """Lay the edges of a coarse mask along the picture's own edges.

    Source: He, Sun and Tang, "Guided Image Filtering" (2010), grey guide, equations 5, 6 and 8.
    """
    guide = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255
    side = 2 * max(1, round(min(mask.shape) * _EDGE_RADIUS)) + 1

    def mean(values: np.ndarray) -> np.ndarray:
        return cv2.boxFilter(values, -1, (side, side))

    guide_mean, mask_mean = mean(guide), mean(mask)
    slope = (mean(guide * mask) - guide_mean * mask_mean) / (mean(guide * guide) - guide_mean**2 + _EDGE_SMOOTHING)
    offset = mask_mean - slope * guide_mean
    return np.clip(mean(slope) * guide + mean(offset), 0, 1)
