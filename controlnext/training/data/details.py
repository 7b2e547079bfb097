"""Weights of the loss on hands and faces, where a pose reader finds people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

import annotators
from controlnext.adherence.body_parts import faces, hands
from controlnext.training.data.crops import PictureCrop

CELL = 8
"""Pixels of a side of a latent cell."""


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
        joints = np.asarray(person, float)
        for centre, radius in (*faces(joints), *hands(joints)):
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
