"""How a picture is brought to the size it is learned at: scaled to cover it, and cut."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image

if TYPE_CHECKING:
    import torch

_STEPS = ((512, 64), (0, 32))
"""Sides of buckets are multiples of this many pixels, from this side of a square on; as SDXL's own buckets."""
_LONGEST = 2.0  # times as long as wide, at most


@dataclass(frozen=True)
class Frame:
    """A cut of a picture.

    Attributes:
        original: width and height of the file, pixels.
        scaled: width and height it is scaled to, pixels.
        size: width and height of the cut, pixels.
        corner: left and top of the cut in the scaled picture, pixels.
        mirrored: whether the picture is mirrored first.
    """

    original: tuple[int, int]
    scaled: tuple[int, int]
    size: tuple[int, int]
    corner: tuple[int, int]
    mirrored: bool = False

    @property
    def box(self) -> tuple[int, int, int, int]:
        """The cut as Pillow takes it."""
        left, top = self.corner
        return left, top, left + self.size[0], top + self.size[1]

    @property
    def key(self) -> str:
        """Names the cut."""
        return f"{self.scaled}{self.box}{self.mirrored}"

    def scale(self, picture: Image.Image) -> Image.Image:
        """Mirror and scale a picture; not cut yet."""
        if self.mirrored:
            picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return picture if picture.size == self.scaled else picture.resize(self.scaled, Image.Resampling.LANCZOS)

    def time_ids(self) -> torch.Tensor:
        """SDXL's size conditioning: original height and width, top and left of the cut, its height and width."""
        import torch

        (width, height), (left, top), size = self.original, self.corner, self.size
        return torch.tensor([height, width, top, left, size[1], size[0]], dtype=torch.float32)


def frame_for(
    original: tuple[int, int],
    size: tuple[int, int],
    *,
    mirrored: bool = False,
    generator: torch.Generator | None = None,
) -> Frame:
    """Choose the cut of a picture.

    Args:
        original: its width and height.
        size: width and height of the cut.
        mirrored: whether it is mirrored first.
        generator: draws where the cut lies; None takes the middle.

    Returns:
        The cut.
    """
    scale = max(size[0] / original[0], size[1] / original[1])
    scaled = tuple(max(side, round(whole * scale)) for side, whole in zip(size, original, strict=True))
    spare = [whole - side for whole, side in zip(scaled, size, strict=True)]
    if generator is None:
        corner = tuple(room // 2 for room in spare)
    else:
        import torch

        corner = tuple(int(torch.randint(room + 1, (), generator=generator)) for room in spare)
    return Frame(tuple(original), scaled, tuple(size), corner, mirrored)


def buckets(width: int, height: int) -> list[tuple[int, int]]:
    """Sizes of about equal area and no larger, from half as wide as high to twice as wide, as (width, height)."""
    side = math.sqrt(width * height)
    step = next(step for least, step in _STEPS if side >= least)
    sizes = {(width, height)}
    for wide in range(step, int(side * _LONGEST) + step, step):
        high = int(side * side / wide / step) * step
        if high and max(wide / high, high / wide) <= _LONGEST:
            sizes.add((wide, high))
    return sorted(sizes)


def nearest_bucket(original: tuple[int, int], sizes: list[tuple[int, int]]) -> tuple[int, int]:
    """The size whose shape is nearest to a picture's."""
    shape = math.log(original[0] / original[1])
    return min(sizes, key=lambda size: (abs(math.log(size[0] / size[1]) - shape), size))
