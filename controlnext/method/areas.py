"""Areas of a control: soft masks that say where it acts, and how strongly.

A mask multiplies the strength, after the control was normalised: the statistics are those of the whole, so that inside of a
mask a control adds what it adds without one. Where the mask is 0 the hidden states stay bit for bit, and a mask of ones is
no mask, bit for bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from controlnext.errors import ControlNeXtError

if TYPE_CHECKING:
    from torch import Tensor


class AreaError(ControlNeXtError, ValueError):
    """A mask of a control that has the wrong form."""


def as_mask(control_mask: object) -> Tensor:
    """Take a mask of any known form as a tensor.

    Args:
        control_mask: a picture, read as grey; an array or tensor `(H, W)`, floats of at least 0 or uint8; or one of
            these for each frame of a video.

    Returns:
        `(1 or F, 1, H, W)` float32; 1 is the full strength.

    Raises:
        AreaError: it is none of these, or a value is negative or not finite.
    """
    import torch

    frames = control_mask if isinstance(control_mask, Sequence) else [control_mask]
    try:
        planes = [_plane(frame) for frame in frames]
        mask = torch.from_numpy(np.stack(planes))[:, None]
    except (TypeError, ValueError) as error:
        raise AreaError(
            f"A mask of a control is a picture or an array (H, W), or one of these for each frame, all of one size: {error}."
        ) from None
    if mask.ndim != 4 or not (mask >= 0).all() or not mask.isfinite().all():
        raise AreaError(
            f"A mask of a control holds finite numbers from 0 up in the shape (H, W), not {tuple(mask.shape[2:])}."
        )
    return mask


def _plane(mask: object) -> np.ndarray:
    array = np.asarray(mask.convert("L") if isinstance(mask, Image.Image) else mask)
    return array.astype(np.float32) / (255 if array.dtype == np.uint8 else 1)


def masked(strength: Tensor, mask: Tensor, size: Sequence[int], batch: int, window: range | None = None) -> Tensor:
    """Spread a strength over an area.

    Args:
        strength: `(N or 1, 1, 1, 1)`.
        mask: `(1 or F, 1, H, W)`.
        size: height and width of the hidden states.
        batch: N, pictures or frames of all clips, clip after clip.
        window: frames of the clip that are at work; None for all.

    Returns:
        `(N or 1, 1, h, w)` float32.

    Raises:
        AreaError: there are not as many masks as frames.
    """
    from torch.nn.functional import adaptive_avg_pool2d

    rows = mask if window is None or len(mask) == 1 else mask[window.start : window.stop]
    if batch % len(rows):
        raise AreaError(f"{len(rows)} masks do not fit {batch} frames: give one for all, or one for each frame.")
    pooled = adaptive_avg_pool2d(rows.to(strength.device), (size[0], size[1]))
    return strength * (pooled if len(rows) == 1 else pooled.repeat(batch // len(rows), 1, 1, 1))
