"""The mask of people: MediaPipe's selfie mask for people near the camera, BlazePose's masks for people far from it."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from annotators.poses.blazepose import find_people, sees_people
from annotators.weights.lite import model

_FAR = 0.10  # share of the picture below which the selfie mask, made for near people, is not trusted
_SURE = 0.5
_MOST_PEOPLE = 4
_EDGE_RADIUS = 1 / 96  # of the short side: how far an edge of the coarse mask may be from the edge in the picture
_EDGE_SMOOTHING = 1e-3


@dataclass(frozen=True)
class PersonMask:
    """How surely each pixel belongs to a person (H, W) float32 in [0, 1], and whether a person was recognised at all."""

    mask: np.ndarray
    recognised: bool


def find_person(rgb: np.ndarray) -> PersonMask:
    """Find where people are.

    The selfie model marks whatever stands in front like a person would, a cat too; the pose detector
    decides whether it is a person.

    Args:
        rgb: picture (H, W, 3), uint8.

    Returns:
        The mask; all zero where nothing stands in front and nobody is far off.
    """
    height, width = rgb.shape[:2]
    net = model("selfie_segmentation")
    reduction = cv2.INTER_AREA if min(height, width) > net.size else cv2.INTER_LINEAR
    small = cv2.resize(rgb, (net.size, net.size), interpolation=reduction)
    mask = net(small / 255.0)["activation_10"][..., 0]
    if float((mask > _SURE).mean()) < _FAR:
        people = find_people(rgb, _MOST_PEOPLE)
        far = [person.mask for person in people] or [np.zeros((height, width), np.float32)]
        return PersonMask(np.max(far, axis=0), bool(people))
    sized = cv2.resize(mask, (width, height), interpolation=cv2.INTER_LINEAR)
    return PersonMask(_along_edges(sized, rgb), sees_people(rgb))


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
    return np.asarray(np.clip(mean(slope) * guide + mean(offset), 0, 1))
