"""Weights of the loss on hands and faces, where a pose reader finds people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

import annotators
from controlnext.training.data.crops import PictureCrop

CELL = 8
"""Pixels of a side of a latent cell."""
_HEAD = (0, 14, 15, 16, 17)  # nose, eyes and ears, as OpenPose numbers 18 joints
_ARMS = ((3, 4), (6, 7))  # elbow and wrist
_SEEN = 0.3  # confidence of a joint that counts
_BEYOND, _HAND, _FACE = 0.25, 0.45, 1.3  # hand: centre beyond the wrist and radius, by forearm; face: radius by spread


def regions(person: np.ndarray) -> Iterator[tuple[np.ndarray, float]]:
    """Yield centre (x, y) and radius, in pixels, of the face and the hands of a person `(18, 3)`: x, y, confidence."""
    head = person[list(_HEAD)]
    head = head[head[:, 2] > _SEEN, :2]
    if len(head) > 1:
        centre = head.mean(0)
        yield centre, _FACE * float(np.linalg.norm(head - centre, axis=1).max())
    for elbow, wrist in person[np.array(_ARMS)]:
        if elbow[2] > _SEEN and wrist[2] > _SEEN:
            forearm = wrist[:2] - elbow[:2]
            yield wrist[:2] + _BEYOND * forearm, _HAND * float(np.linalg.norm(forearm))


def detail_weights(people: Sequence[np.ndarray], crop: PictureCrop, weight: float) -> Tensor:
    """Weigh the cells of hands and faces.

    Args:
        people: `(18, 3)` each, in pixels of the scaled picture.
        crop: of the picture.
        weight: of these cells, where all others have 1; at least 1.

    Returns:
        `(1, h, w)` weights with mean 1, so that the size of the loss stays.
    """
    (width, height), (left, top) = crop.size, crop.corner
    y, x = np.mgrid[CELL / 2 : height : CELL, CELL / 2 : width : CELL]
    inside = np.zeros(x.shape, bool)
    for person in people:
        for centre, radius in regions(np.asarray(person, float)):
            # At least half a cell: a hand in the distance is smaller than one.
            inside |= np.hypot(x + left - centre[0], y + top - centre[1]) <= max(radius, CELL / 2)
    weights = torch.from_numpy(np.where(inside, weight, 1.0)).float()[None]
    return weights / weights.mean()


def read_details(picture: Image.Image, crop: PictureCrop, weight: float, options: Mapping[str, str]) -> Tensor:
    """Find people in the scaled picture and weigh their hands and faces; without people all cells weigh 1.

    Args:
        picture: mirrored and scaled by `crop`, not cut.
        crop: of the picture.
        weight: see `detail_weights`.
        options: of the pose annotator, such as its backend.
    """
    try:
        people = (annotators.annotate("pose", picture, **options).data or {}).get("people", [])
    except annotators.NobodyFound:
        people = []
    return detail_weights(people, crop, weight)
