"""Grey pictures of more than 8 bits: photographs keep their range, measured depth is stretched with near as bright."""

from __future__ import annotations

import numpy as np
from PIL import Image

from annotators.base import PictureError

_DEEP = 65535.0
_MEASURED = (
    0.25  # share of the 16-bit range below which nearly all values of a depth camera lie: millimetres up to 16 m
)
_NEARLY_ALL = 99.5  # percentile
_STRETCH = (1.0, 99.0)  # percentiles that become white and black
_BYTE = 255.0
_BYTE_PICTURE = 64.0  # brightest value from which whole numbers up to 255 are an 8-bit picture rather than a distance


def is_deep(image: Image.Image) -> bool:
    """Return whether a picture has one channel of 16 bits, 32 bits or floats."""
    return image.mode.startswith(("I", "F"))


def to_grey(image: Image.Image, name: str) -> tuple[Image.Image, str]:
    """Turn a deep grey picture into one of 8 bits.

    Values in [0, 1] as floats and values over the range of 8 or 16 bits keep that range, as in a browser. Anything else is a
    measurement, such as depth in millimetres or metres: it is stretched between percentiles with near as white. What is
    missing in it (zero, infinite or no number) is black.

    Args:
        image: of mode I, I;16 or F.
        name: of the picture in a sentence.

    Returns:
        L or LA picture (LA where a PNG has a transparent grey), and a sentence about a measurement, else an empty text.

    Raises:
        PictureError: it holds no number at all.
    """
    values = np.asarray(image).astype(np.float64)
    finite = np.isfinite(values)
    if not finite.any():
        raise PictureError(f"{name} holds no values that are numbers: export it again.")
    top = _top_of(values[finite], floats=image.mode == "F", deep=image.mode.startswith("I;16"))
    if top is None:
        return _measured(values, finite & (values > 0))
    grey = np.rint(np.clip(np.where(finite, values, 0) / top, 0, 1) * _BYTE).astype(np.uint8)
    clear = image.info.get("transparency")
    if isinstance(clear, int):
        alpha = np.where(values == clear, 0, 255).astype(np.uint8)
        return Image.merge("LA", (Image.fromarray(grey), Image.fromarray(alpha))), ""
    return Image.fromarray(grey), ""


def _top_of(values: np.ndarray, *, floats: bool, deep: bool) -> float | None:
    """Return the value that is white, or None for a measurement."""
    highest, lowest = float(values.max()), float(values.min())
    if lowest < 0:
        return None
    if highest == 0 or (floats and highest <= 1):
        return 1.0
    if not deep and highest <= _BYTE and highest >= _BYTE_PICTURE and bool((values == np.rint(values)).all()):
        return _BYTE
    if highest <= _DEEP and np.percentile(values, _NEARLY_ALL) >= _MEASURED * _DEEP:
        return _DEEP
    return None


def _measured(values: np.ndarray, known: np.ndarray) -> tuple[Image.Image, str]:
    if not known.any():
        known = np.isfinite(values)
    near, far = np.percentile(values[known], _STRETCH)
    spread = max(far - near, 1e-9 * max(abs(far), 1.0))
    bright = np.where(known, 1 - np.clip((np.where(known, values, far) - near) / spread, 0, 1), 0)
    note = (
        f"The picture holds measured values, mostly {near:.4g} to {far:.4g}, as depth cameras save them: the lowest are drawn "
        "bright (near), the highest dark (far), missing ones black."
    )
    return Image.fromarray(np.rint(bright * _BYTE).astype(np.uint8)), note
