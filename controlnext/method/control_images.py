"""Control images: pictures of any kind become tensors of RGB in [0, 1]."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import PIL.Image
import torch
from torch import Tensor

from controlnext.errors import ControlNeXtError

Picture = PIL.Image.Image | np.ndarray | Tensor


class ControlImageError(ControlNeXtError, ValueError):
    """A control image that is no RGB picture in a known form."""


def as_pictures(control_image: Picture | Sequence[Picture]) -> list[PIL.Image.Image | Tensor]:
    """Split control images of any known form into single pictures.

    Args:
        control_image: PIL; numpy `(H, W)`, `(H, W, 3)` or `(B, H, W, 3)`; tensor `(3, H, W)` or `(B, 3, H, W)`; uint8,
            or floats in [0, 1]; or a sequence of these.

    Returns:
        PIL RGB pictures and float32 tensors `(3, H, W)`, in order.

    Raises:
        ControlImageError: Something is no such picture.
    """
    if isinstance(control_image, list | tuple):
        pictures = [picture for item in control_image for picture in as_pictures(item)]
        if not pictures:
            raise ControlImageError("The list of control images is empty.")
        return pictures
    if isinstance(control_image, PIL.Image.Image):
        return [control_image.convert("RGB")]
    if not isinstance(control_image, np.ndarray | Tensor):
        raise ControlImageError(
            f"A control image is a PIL image, array or tensor, not {type(control_image).__name__}."
        )
    if isinstance(control_image, Tensor):
        tensor = control_image.detach().cpu()
    else:
        tensor = torch.from_numpy(control_image.copy())
        tensor = tensor.unsqueeze(-1) if tensor.ndim == 2 else tensor
        tensor = tensor.movedim(-1, -3) if tensor.ndim > 2 else tensor
    if tensor.ndim not in (3, 4) or tensor.shape[-3] not in (1, 3) or not tensor.numel():
        raise ControlImageError(
            f"A control image has the shape (3, H, W) as a tensor or (H, W, 3) as an array, or a batch of it, not "
            f"{tuple(control_image.shape)}."
        )
    tensor = tensor.float() / 255 if tensor.dtype == torch.uint8 else tensor.float()
    if not (tensor.min() >= 0 and tensor.max() <= 1):
        raise ControlImageError(
            f"A control image holds RGB in [0, 1], or uint8, not values from {tensor.min():.3g} to {tensor.max():.3g}."
        )
    return list(tensor.reshape(-1, *tensor.shape[-3:]).expand(-1, 3, -1, -1))


def size_of(picture: PIL.Image.Image | Tensor) -> tuple[int, int]:
    """Return height and width in pixels."""
    if isinstance(picture, PIL.Image.Image):
        return picture.height, picture.width
    return picture.shape[-2], picture.shape[-1]


def resized(picture: PIL.Image.Image | Tensor, height: int, width: int) -> Tensor:
    """Resize a picture by Lanczos, as the authors' pipelines do.

    Args:
        picture: PIL RGB, or a float tensor `(3, H, W)` in [0, 1].
        height: In pixels.
        width: In pixels.

    Returns:
        RGB in [0, 1], `(3, height, width)` float32.
    """
    if isinstance(picture, PIL.Image.Image):
        if size_of(picture) != (height, width):
            picture = picture.resize((width, height), PIL.Image.Resampling.LANCZOS)
        return torch.from_numpy(np.asarray(picture, np.float32) / 255).permute(2, 0, 1)
    if size_of(picture) == (height, width):
        return picture
    planes = [
        PIL.Image.fromarray(plane).resize((width, height), PIL.Image.Resampling.LANCZOS) for plane in picture.numpy()
    ]
    return torch.from_numpy(np.stack([np.asarray(plane) for plane in planes])).clamp(0, 1)
