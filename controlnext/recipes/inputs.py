"""Input pictures of a recipe, and how a PNG carries them: conditions, a start picture, a mask."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from PIL import Image, PngImagePlugin

from controlnext.errors import ControlNeXtError
from controlnext.recipes.kinds import MASK_FIT, START_FIT
from controlnext.recipes.pictures import fit_condition

CONDITION_CHUNK, INIT_CHUNK, MASK_CHUNK, REFERENCE_CHUNK = b"cnCd", b"cnIn", b"cnMk", b"cnRf"
"""PNG chunks holding pictures as PNGs: ancillary, private, safe to copy (PNG specification, section 5.4). Each control has
one condition chunk, in the order of the recipe."""

PEOPLE_KEY = "people"
"""Text chunk inside of a condition's PNG: its joints as JSON, since a drawing shows some of them one upon the other."""


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


@dataclass(frozen=True)
class KnownCondition:
    """A condition found inside of a result, with what was known of it when the result was made.

    Attributes:
        image: the picture.
        data: `people`, each (joints, 3): x and y in pixels, confidence.
    """

    image: Image.Image
    data: Mapping[str, Any]


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
        for condition in self.conditions:
            yield CONDITION_CHUNK, _png(picture_of(condition).convert("RGB"), _people_text(condition))
        for name, image in ((INIT_CHUNK, self.init_image), (MASK_CHUNK, self.mask), (REFERENCE_CHUNK, self.reference)):
            if image is not None:
                yield name, _png(image.convert("L" if name == MASK_CHUNK else "RGB"))

    @classmethod
    def unpack(cls, chunks: Iterable[tuple[bytes, bytes]]) -> Inputs:
        """Read the chunks again; other chunks are skipped.

        Raises:
            OSError, ValueError, SyntaxError, Image.DecompressionBombError: one of the pictures is damaged.
        """
        conditions: list[Image.Image | Annotated] = []
        first: dict[bytes, Image.Image] = {}
        for name, data in chunks:
            if name not in (CONDITION_CHUNK, INIT_CHUNK, MASK_CHUNK, REFERENCE_CHUNK):
                continue
            opened = Image.open(io.BytesIO(data), formats=["PNG"])
            image = opened.convert("L" if name == MASK_CHUNK else "RGB")
            if name == CONDITION_CHUNK:
                people = _people(opened.info.get(PEOPLE_KEY))
                conditions.append(image if people is None else KnownCondition(image, {"people": people}))
            else:
                first.setdefault(name, image)
        return cls(
            tuple(conditions), first.get(INIT_CHUNK), first.get(MASK_CHUNK), reference=first.get(REFERENCE_CHUNK)
        )


def _png(image: Image.Image, people: str = "") -> bytes:
    buffer, info = io.BytesIO(), PngImagePlugin.PngInfo()
    if people:
        info.add_text(PEOPLE_KEY, people)
    image.save(buffer, format="PNG", pnginfo=info)
    return buffer.getvalue()


def _people_text(condition: Image.Image | Annotated) -> str:
    """Return the people of a condition as JSON; empty where none are known."""
    people = None if isinstance(condition, Image.Image) else (condition.data or {}).get("people")
    if not people:
        return ""
    return json.dumps([np.asarray(one, np.float64).reshape(-1, 3).round(4).tolist() for one in people])


def _people(text: object) -> list[np.ndarray] | None:
    """Read them again; None where there are none, or where they are no joints."""
    if not isinstance(text, str):
        return None
    try:
        people = [np.asarray(one, dtype=np.float64) for one in json.loads(text)]
    except (TypeError, ValueError, RecursionError):
        return None
    fine = all(one.ndim == 2 and one.shape[1] == 3 and np.isfinite(one).all() for one in people)
    return people if people and fine else None


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
