"""Input pictures of a recipe, and how a PNG carries them: conditions, a start picture, a mask."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from PIL import Image

from controlnext.errors import ControlNeXtError
from controlnext.recipes.kinds import MASK_FIT, START_FIT
from controlnext.recipes.pictures import fit_condition

CONDITION_CHUNK, INIT_CHUNK, MASK_CHUNK, REFERENCE_CHUNK = b"cnCd", b"cnIn", b"cnMk", b"cnRf"
"""PNG chunks holding pictures as PNGs: ancillary, private, safe to copy (PNG specification, section 5.4). Each control has
one condition chunk, in the order of the recipe."""


class Annotated(Protocol):
    """A condition with its data, as an annotator returns it."""

    @property
    def image(self) -> Image.Image:
        """The picture."""

    @property
    def data(self) -> Mapping[str, Any] | None:
        """Its data, such as the people of a pose, or None."""


def picture_of(condition: Image.Image | Annotated) -> Image.Image:
    """The picture of a condition, with or without what is known of it."""
    return condition if isinstance(condition, Image.Image) else condition.image


class InputError(ControlNeXtError, ValueError):
    """Pictures given to a run that do not go together."""


@dataclass(frozen=True)
class Drawn:
    """A picture that was drawn before, of which a run does the rest.

    Attributes:
        image: RGB, in the recipe's size.
        detail: the parts of the recipe's `detail` that it has, its first ones.
    """

    image: Image.Image
    detail: tuple[str, ...] = ()


@dataclass(frozen=True)
class Inputs:
    """Pictures given to a run, or found inside of a result.

    Attributes:
        conditions: one for each control of the recipe, in its order; pictures, or annotations with their data.
        init_image: picture to start from instead of noise; None starts from noise.
        mask: of the size of `init_image`, white where it is to be repainted; None repaints all.
        reference: picture that an IP-Adapter takes looks from.
        people: areas of the people of the pose control, (h, w) in [0, 1]; found in its condition, not kept in a file.
        drawn: the picture itself, where it is only to be enhanced; not kept in a file.
    """

    conditions: tuple[Image.Image | Annotated, ...] = ()
    init_image: Image.Image | None = None
    mask: Image.Image | None = None
    drawn: Drawn | None = None
    people: tuple[np.ndarray, ...] = ()
    reference: Image.Image | None = None

    @classmethod
    def of(cls, given: Image.Image | Annotated | Inputs | None) -> Inputs:
        """Wrap what a run was given: nothing, one condition, or all inputs."""
        if isinstance(given, Inputs):
            return given
        return cls() if given is None else cls((given,))

    def pack(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield the chunks that hold the pictures."""
        images = [(CONDITION_CHUNK, picture_of(condition)) for condition in self.conditions]
        for name, image in (
            *images,
            (INIT_CHUNK, self.init_image),
            (MASK_CHUNK, self.mask),
            (REFERENCE_CHUNK, self.reference),
        ):
            if image is not None:
                buffer = io.BytesIO()
                image.convert("L" if name == MASK_CHUNK else "RGB").save(buffer, format="PNG")
                yield name, buffer.getvalue()

    @classmethod
    def unpack(cls, chunks: Iterable[tuple[bytes, bytes]]) -> Inputs:
        """Read the chunks again; other chunks are skipped.

        Raises:
            OSError, ValueError, SyntaxError, Image.DecompressionBombError: one of the pictures is damaged.
        """
        images: dict[bytes, list[Image.Image]] = {
            CONDITION_CHUNK: [],
            INIT_CHUNK: [],
            MASK_CHUNK: [],
            REFERENCE_CHUNK: [],
        }
        for name, data in chunks:
            if name in images:
                image = Image.open(io.BytesIO(data), formats=["PNG"])
                images[name].append(image.convert("L" if name == MASK_CHUNK else "RGB"))
        first = {name: next(iter(found), None) for name, found in images.items()}
        return cls(
            tuple(images[CONDITION_CHUNK]), first[INIT_CHUNK], first[MASK_CHUNK], reference=first[REFERENCE_CHUNK]
        )


def fitted_start(
    inputs: Inputs, size: tuple[int, int], *, crop: bool = False
) -> tuple[Image.Image | None, Image.Image | None]:
    """Bring a start picture and its mask to the size of the picture to be made, as conditions are.

    Args:
        inputs: may hold them.
        size: width and height in pixels.
        crop: whether to crop instead of padding.

    Returns:
        The start picture (RGB) and the mask (L, only 0 and 255); None where there is none.

    Raises:
        InputError: a mask without its picture, of another size, or that marks nothing.
    """
    init, mask = inputs.init_image, inputs.mask
    if init is None:
        if mask is not None:
            raise InputError("A mask needs the picture it belongs to; give the start picture, too.")
        return None, None
    if mask is not None and mask.size != init.size:
        raise InputError(
            f"The mask has {mask.width}x{mask.height} pixels and the start picture {init.width}x{init.height}; give a "
            "mask of the same size."
        )
    if mask is not None:
        marked = mask.convert("L").point(lambda value: 255 * (value > 127))
        mask = fit_condition(marked, *size, MASK_FIT, crop=crop).convert("L")
        if not mask.getbbox():
            raise InputError("The mask marks nothing; make white what is to be repainted, or leave the mask out.")
    return fit_condition(init, *size, START_FIT, crop=crop), mask
