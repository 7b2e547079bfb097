"""The reference picture: its size in a video, and the PNG that a video carries."""

from __future__ import annotations

import base64
import binascii
import io
from pathlib import Path

from PIL import Image, ImageOps

from controlnext.recipes.mp4 import read_contents
from controlnext.recipes.recipe import RecipeError

REFERENCE_KEY = "controlnext:reference"
"""Where a video carries its reference picture: a PNG in base64."""

_SIDE = 1024  # pixels; the longest side of a video model's picture


def bounded_reference(reference: Image.Image) -> Image.Image:
    """Shrink a reference to the largest size that a video can show, RGB; a smaller one keeps its pixels.

    A video carries its reference: a photograph from a phone would be many times larger than the video itself, and too large
    to be read back.
    """
    scale = _SIDE / min(reference.size)
    if scale >= 1:
        return reference.convert("RGB")
    width, height = (max(_SIDE, round(side * scale)) for side in reference.size)
    return reference.convert("RGB").resize((width, height), Image.Resampling.LANCZOS, reducing_gap=3.0)


def reference_picture(reference: Image.Image, width: int, height: int) -> Image.Image:
    """Bring a reference to the video's size: resized to fill it and cropped in the middle, as `crop_points` does."""
    if reference.size == (width, height):
        return reference.convert("RGB")
    return ImageOps.fit(reference.convert("RGB"), (width, height), Image.Resampling.LANCZOS)


def cropped_share(reference: Image.Image, width: int, height: int) -> float:
    """Return how much `reference_picture` cuts off: a share of the width, or below 0, of the height."""
    wider = reference.width * height / (reference.height * width)
    return 1 - 1 / wider if wider >= 1 else wider - 1


def pack_reference(reference: Image.Image) -> str:
    """Encode a reference picture as a video carries it."""
    buffer = io.BytesIO()
    reference.save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def read_reference(source: str | Path) -> Image.Image | None:
    """Read the reference picture inside a video, or None where there is none.

    Raises:
        RecipeError: there is one and it is damaged.
    """
    text = read_contents(source).get(REFERENCE_KEY)
    if text is None:
        return None
    try:
        return Image.open(io.BytesIO(base64.b64decode(text, validate=True)), formats=["PNG"]).convert("RGB")
    except (binascii.Error, OSError, SyntaxError, TypeError, ValueError, Image.DecompressionBombError):
        raise RecipeError("The reference inside this video is damaged; give the reference itself.") from None
