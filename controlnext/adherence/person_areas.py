"""Areas of the people of a drawn pose: soft masks around each skeleton, from left to right."""

from __future__ import annotations

import numpy as np

from controlnext.adherence.joints import shown_joints
from controlnext.adherence.skeletons import joints_in_drawing

AREA_SIDE = 128
"""Longer side of a mask."""

AROUND, SOFT = 0.12, 0.04
"""How far a mask reaches beyond the joints, and the blur of its edge, in heights of the person."""


def person_areas(drawing: np.ndarray) -> list[np.ndarray]:
    """Find the areas of the people in a pose drawing.

    Args:
        drawing: (H, W, 3) uint8, as `joints_in_drawing` takes it.

    Returns:
        Masks (h, w) float32 in [0, 1], one a person from left to right; where people overlap, they sum to at most 1.
    """
    import cv2  # not needed where no recipe has words for people

    scale = AREA_SIDE / max(drawing.shape[:2])
    height, width = (max(1, round(side * scale)) for side in drawing.shape[:2])
    places = []
    for person in joints_in_drawing(drawing):
        shown = person[shown_joints(person), :2] * scale
        if len(shown):
            places.append(shown)
    masks = []
    for shown in sorted(places, key=lambda points: float(points[:, 0].mean())):
        tall = max(float(np.ptp(shown, axis=0).max()), 4.0)
        mask = np.zeros((height, width), np.float32)
        hull = cv2.convexHull(shown.astype(np.float32)).round().astype(np.int32)
        cv2.fillPoly(mask, [hull], (1.0,))
        cv2.polylines(mask, [hull], True, (1.0,), max(1, round(2 * AROUND * tall)))
        masks.append(np.clip(cv2.GaussianBlur(mask, (0, 0), SOFT * tall), 0, 1))
    total = np.maximum(np.sum(masks, axis=0), 1.0) if masks else 1.0
    return [mask / total for mask in masks]
