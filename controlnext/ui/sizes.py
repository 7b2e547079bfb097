"""Picture sizes by shape: the model's own number of pixels, spread over the width and the height."""

from __future__ import annotations

import math

SHAPES: tuple[str, ...] = ("model", "picture", "1:1", "4:3", "3:4", "16:9", "9:16")
"""What the page offers, the model's own size first; "picture" takes the shape of the picture that is there."""

STEP = 32
"""Both sides are a multiple of this: an eighth of it is the latent, which the UNets halve at least twice."""

WIDEST = 2.5
"""The longest shape that "picture" goes to; beyond it no model of ours draws anything sensible."""


def size_choices(width: int, height: int) -> list[tuple[str, str]]:
    """Return (label, value) of the size dropdown for a model whose own size is `width` x `height` pixels."""
    choices = [(f"{width} × {height}", "model"), ("As the picture", "picture")]
    for shape in SHAPES[2:]:
        wide, high = size_of(shape, width, height, None)
        if (wide, high) != (width, height):
            choices.append((f"{wide} × {high}  ({shape})", shape))
    return choices


def size_of(shape: str, width: int, height: int, picture: tuple[int, int] | None) -> tuple[int, int]:
    """Return width and height in pixels.

    Args:
        shape: One of `SHAPES`, or "WIDTHxHEIGHT" as it stands in a recipe.
        width: The model's own width, in pixels.
        height: The model's own height, in pixels.
        picture: Width and height of the picture, for "picture"; `None` when there is none.
    """
    if shape == "model" or (shape == "picture" and picture is None):
        return width, height
    if "x" in shape:
        wide, high = shape.split("x")
        return int(wide), int(high)
    parts = picture if shape == "picture" else [int(part) for part in shape.split(":")]
    ratio = min(max(parts[0] / parts[1], 1 / WIDEST), WIDEST)
    pixels = width * height
    wide = _rounded(math.sqrt(pixels * ratio))
    return wide, _rounded(wide / ratio)


def _rounded(pixels: float) -> int:
    return max(STEP, STEP * round(pixels / STEP))
