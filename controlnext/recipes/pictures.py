"""Fitting of condition pictures to the size of a picture, and digests of their content."""

from __future__ import annotations

import hashlib

import numpy as np
from PIL import Image

from controlnext.recipes.kinds import Fit, kind_of

LONGEST_SHAPE = 64
"""Long side to short side from which a crop takes the middle alone; the most that a recipe's size can show is 32."""

_LINE_THRESHOLD = 48  # a line one pixel wide keeps this brightness when shrunk up to 5 times


def fit_condition(
    image: Image.Image, width: int, height: int, kind: str | Fit = "", *, crop: bool = False
) -> Image.Image:
    """Fit a condition picture into (width, height), keeping its shape: padded, or cropped on both sides alike.

    Never stretched: a stretched skeleton is another body. Fitting twice changes nothing, so a condition taken from a
    saved result gives the same pixels again.

    Args:
        image: condition picture of any size and mode.
        width: width of the picture to be made, in pixels.
        height: height of the picture to be made, in pixels.
        kind: which kind of condition it is, or the fit itself; an unknown kind is smooth on black.
        crop: whether to crop instead of padding.

    Returns:
        RGB picture of exactly (width, height).
    """
    image = image if image.mode == "RGB" else image.convert("RGB")
    if image.size == (width, height):
        return image
    fit = kind if isinstance(kind, Fit) else kind_of(kind).fit
    if crop and max(image.size) > LONGEST_SHAPE * min(image.size):
        image = _middle(image)  # the whole of it would be enlarged to gigabytes
    left, top, inner_width, inner_height = fit_box(image.size, width, height, crop=crop)
    array = np.asarray(resized(image, (inner_width, inner_height), fit.resample))
    if crop:
        return Image.fromarray(array[-top : height - top, -left : width - left])
    border = ((top, height - inner_height - top), (left, width - inner_width - left), (0, 0))
    return Image.fromarray(np.pad(array, border, mode="edge" if fit.pad == "edge" else "constant"))


def _middle(image: Image.Image) -> Image.Image:
    """Cut a picture that is longer than any crop shows down to its middle."""
    kept = [
        side - 2 * max(0, (side - LONGEST_SHAPE * min(image.size)) // 2) for side in image.size
    ]  # as much at both ends
    left, top = ((side - part) // 2 for side, part in zip(image.size, kept, strict=True))
    return image.crop((left, top, left + kept[0], top + kept[1]))


def fit_box(size: tuple[int, int], width: int, height: int, *, crop: bool = False) -> tuple[int, int, int, int]:
    """Where `fit_condition` puts a picture.

    Args:
        size: width and height of the picture, in pixels.
        width: width of the whole, in pixels.
        height: height of the whole, in pixels.
        crop: whether it fills the whole, and reaches beyond it.

    Returns:
        Left, top, width and height of the picture inside the whole, in pixels.
    """
    scale = (max if crop else min)(width / size[0], height / size[1])
    if crop:
        wide, high = (max(whole, round(side * scale)) for side, whole in zip(size, (width, height), strict=True))
        return (width - wide) // 2, (height - high) // 2, wide, high
    inner_width, inner_height = (
        min(whole, max(1, round(side * scale))) for side, whole in zip(size, (width, height), strict=True)
    )
    return (width - inner_width) // 2, (height - inner_height) // 2, inner_width, inner_height


def resized(image: Image.Image, size: tuple[int, int], resample: str) -> Image.Image:
    """Stretch a condition picture to a width and height, as `Fit.resample` says."""
    if image.size == size:
        return image
    if resample == "nearest":
        return image.resize(size, Image.Resampling.NEAREST)
    if resample == "lines":
        shrunk = np.asarray(image.resize(size, Image.Resampling.BOX).convert("L"))
        white = np.where(shrunk >= _LINE_THRESHOLD, 255, 0).astype(np.uint8)
        return Image.fromarray(np.repeat(white[..., None], 3, axis=2))
    return image.resize(size, Image.Resampling.LANCZOS)


def picture_digest(image: Image.Image) -> str:
    """Return the digest of a picture: SHA-256 over its size and RGB pixels, in hexadecimal.

    The same picture has the same name whatever file format, compression or metadata it came with.
    """
    rgb = image if image.mode == "RGB" else image.convert("RGB")
    digest = hashlib.sha256(f"{rgb.width}x{rgb.height}:".encode())
    digest.update(rgb.tobytes())
    return digest.hexdigest()
