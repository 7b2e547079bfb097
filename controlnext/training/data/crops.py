"""Crops: a picture scaled to cover the training size, and cut; sizes of aspect buckets."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image

if TYPE_CHECKING:
    import torch

_STEPS = ((512, 64), (0, 32))
"""(side of a square in pixels, step): sides of buckets are multiples of the step from that side on, as in SDXL's buckets."""
_LONGEST = 2.0  # times as long as wide, at most


@dataclass(frozen=True)
class PictureCrop:
    """A crop of a picture.

    Attributes:
        original: width and height of the file, pixels.
        scaled: width and height it is scaled to, pixels.
        size: width and height of the crop, pixels.
        corner: left and top of the crop in the scaled picture, pixels.
        mirrored: whether the picture is mirrored first.
    """

    original: tuple[int, int]
    scaled: tuple[int, int]
    size: tuple[int, int]
    corner: tuple[int, int]
    mirrored: bool = False

    @property
    def box(self) -> tuple[int, int, int, int]:
        """The crop as Pillow takes it."""
        left, top = self.corner
        return left, top, left + self.size[0], top + self.size[1]

    @property
    def key(self) -> str:
        """Part of the cache key."""
        return f"{self.scaled}{self.box}{self.mirrored}"

    def scale(self, picture: Image.Image) -> Image.Image:
        """Mirror and scale a picture, without cutting it."""
        if self.mirrored:
            picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return picture if picture.size == self.scaled else picture.resize(self.scaled, Image.Resampling.LANCZOS)

    def cut(self, picture: Image.Image) -> Image.Image:
        """Mirror, scale and cut a picture."""
        return self.scale(picture).crop(self.box)

    def time_ids(self) -> torch.Tensor:
        """SDXL's size conditioning: original height and width, top and left of the crop, its height and width."""
        import torch

        (width, height), (left, top), size = self.original, self.corner, self.size
        return torch.tensor([height, width, top, left, size[1], size[0]], dtype=torch.float32)


def crop_for(
    original: tuple[int, int],
    size: tuple[int, int],
    *,
    mirrored: bool = False,
    generator: torch.Generator | None = None,
) -> PictureCrop:
    """Choose the crop of a picture.

    Args:
        original: its width and height.
        size: width and height of the crop.
        mirrored: whether it is mirrored first.
        generator: chooses the place of the crop; None takes the middle.

    Returns:
        The crop.
    """
    scale = max(size[0] / original[0], size[1] / original[1])
    scaled = max(size[0], round(original[0] * scale)), max(size[1], round(original[1] * scale))

    def offset(spare: int) -> int:
        if generator is None:
            return spare // 2
        import torch

        return int(torch.randint(spare + 1, (), generator=generator))

    corner = offset(scaled[0] - size[0]), offset(scaled[1] - size[1])
    return PictureCrop(original, scaled, size, corner, mirrored)


def buckets(width: int, height: int) -> list[tuple[int, int]]:
    """Return sizes (width, height) of about equal area and no larger, with aspect ratios from 1:2 to 2:1."""
    side = math.sqrt(width * height)
    step = next(step for least, step in _STEPS if side >= least)
    sizes = {(width, height)}
    for wide in range(step, int(side * _LONGEST) + step, step):
        high = int(side * side / wide / step) * step
        if high and max(wide / high, high / wide) <= _LONGEST:
            sizes.add((wide, high))
    return sorted(sizes)


def nearest_bucket(original: tuple[int, int], sizes: list[tuple[int, int]]) -> tuple[int, int]:
    """Return the size with the aspect ratio nearest to a picture's."""
    shape = math.log(original[0] / original[1])
    return min(sizes, key=lambda size: (abs(math.log(size[0] / size[1]) - shape), size))
