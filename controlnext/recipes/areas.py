"""Areas of controls inside recipes: a small grey picture as text, white where the control acts.

The control acts on a grid that is coarser than this by far, so nothing is lost; and what is in the recipe needs no file.
"""

from __future__ import annotations

import base64
import binascii
import io

from PIL import Image, ImageFilter, ImageOps

from controlnext.errors import fail
from controlnext.recipes.kinds import Fit
from controlnext.recipes.pictures import fit_condition

AREA_SIDE = 128
"""Longer side of an area in pixels: the largest grid that a control is added on, that of SDXL at 1024 pixels."""

_LONGEST = 4 * AREA_SIDE * AREA_SIDE  # characters; noise of that size takes half of it


def area_text(
    mask: Image.Image, size: tuple[int, int], *, outside: bool = False, soft: float = 0.0, crop: bool = False
) -> str:
    """Write a mask as a recipe has it.

    Args:
        mask: read as grey, white where the control acts; fitted into the picture as its condition is.
        size: width and height of the picture to be made, in pixels.
        outside: the control acts where the mask is black.
        soft: how far its edge is blurred, in pixels of that picture.
        crop: as of `fit_condition`.

    Returns:
        Text; empty for a mask that is white everywhere, which is none.
    """
    grey = fit_condition(mask.convert("L"), *size, Fit(pad="edge"), crop=crop).convert("L")
    grey = ImageOps.invert(grey) if outside else grey
    grey = grey.filter(ImageFilter.GaussianBlur(soft)) if soft > 0 else grey
    grey.thumbnail((AREA_SIDE, AREA_SIDE), Image.Resampling.BOX)
    if grey.getextrema() == (255, 255):
        return ""
    buffer = io.BytesIO()
    grey.save(buffer, format="PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()


def area_picture(text: str) -> Image.Image:
    """Read what `area_text` wrote: L, at most `AREA_SIDE` pixels on a side.

    Raises:
        ValueError: it is something else; the text is the sentence to show.
    """
    try:
        if len(text) > _LONGEST:
            raise ValueError
        opened = Image.open(io.BytesIO(base64.b64decode(text, validate=True)), formats=["PNG"])
        if max(opened.size) > AREA_SIDE or opened.mode != "L":
            raise ValueError
        opened.load()
    except (ValueError, OSError, SyntaxError, binascii.Error, Image.DecompressionBombError):
        fail(f"The area of a control is a grey PNG of at most {AREA_SIDE} pixels a side in base64, and this is none.")
    return opened


def area_cut(text: str, box: tuple[int, int, int, int], size: tuple[int, int]) -> str:
    """Return the part of an area for a cut of the picture that is enlarged to the picture's size.

    Args:
        text: as `area_text` wrote it, or empty.
        box: left, top, right and bottom of the cut in pixels.
        size: width and height of the picture.
    """
    return area_text(area_picture(text).resize(size, Image.Resampling.BILINEAR).crop(box), size) if text else ""
