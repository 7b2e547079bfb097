"""Choices of picture sizes: those of the model, or common shapes with the same number of pixels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

PICTURE = "picture"
"""The choice that takes the shape of the picture that is there."""

NEAREST = "nearest"
"""The choice that takes the model's size whose shape is nearest to that of the picture: little is padded."""

SHAPES: tuple[str, ...] = ("1:1", "4:3", "3:4", "16:9", "9:16")
"""Offered for a model whose preset names no sizes of its own."""

STEP = 32
"""Both sides of a computed size are a multiple of this: an eighth is the latent, which the UNets halve at least twice."""

WIDEST = 2.0
"""The longest shape that `PICTURE` goes to; beyond it the models draw things twice."""

Sizes = Mapping[str, Any]
"""The `sizes` of a row of `Studio.models`: width, height, minimum, maximum and choices, in pixels."""


def named(width: int, height: int) -> str:
    """Return the value that stands for a size in the dropdown."""
    return f"{width}x{height}"


def size_choices(sizes: Sizes) -> list[tuple[str, str]]:
    """Return (label, value) pairs for the dropdown, the model's own size first."""
    own = (sizes["width"], sizes["height"])
    shapes = sizes.get("choices") or {shape: _of_shape(shape, sizes) for shape in SHAPES}
    rows = {own: ""} | {tuple(size): shape for shape, size in shapes.items()}
    choices = [
        (f"{wide} × {high}" + (f"  ({shape})" if shape else ""), named(wide, high))
        for (wide, high), shape in rows.items()
    ]
    return [*choices, ("As the picture", PICTURE)]


def picture_size_choices(sizes: Sizes) -> list[tuple[str, str]]:
    """Return the choices of a tab whose pictures follow a picture: the nearest size first, which is the default."""
    return [("Picture's shape", NEAREST), *size_choices(sizes)]


def size_of(value: str, sizes: Sizes, picture: tuple[int, int] | None) -> tuple[int, int]:
    """Return width and height in pixels.

    Args:
        value: A value of `picture_size_choices`, or any "WIDTHxHEIGHT".
        sizes: Of the model.
        picture: Width and height of the picture, for `PICTURE` and `NEAREST`; `None` when there is none.
    """
    if value not in (PICTURE, NEAREST):
        wide, high = value.split("x")
        return int(wide), int(high)
    if picture is None:
        return sizes["width"], sizes["height"]
    if value == NEAREST:
        return _nearest(picture[0] / picture[1], sizes)
    return _spread(picture[0] / picture[1], sizes)


def _nearest(ratio: float, sizes: Sizes) -> tuple[int, int]:
    """The size of the model whose ratio of width to height differs by the smallest factor."""
    known = [size_of(value, sizes, None) for _, value in size_choices(sizes) if value != PICTURE]
    return min(known, key=lambda size: abs(math.log(size[0] / size[1] / ratio)))


def _of_shape(shape: str, sizes: Sizes) -> tuple[int, int]:
    wide, high = (int(part) for part in shape.split(":"))
    return _spread(wide / high, sizes)


def _spread(ratio: float, sizes: Sizes) -> tuple[int, int]:
    """Spread the model's own number of pixels over a width and a height of this ratio."""
    ratio = min(max(ratio, 1 / WIDEST), WIDEST)
    high = math.sqrt(sizes["width"] * sizes["height"] / ratio)
    return _rounded(high * ratio, sizes), _rounded(high, sizes)


def _rounded(pixels: float, sizes: Sizes) -> int:
    steps = range(math.ceil(sizes["minimum"] / STEP), sizes["maximum"] // STEP + 1)
    return STEP * min(max(round(pixels / STEP), steps.start), steps.stop - 1)
