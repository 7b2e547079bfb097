"""Verify: a saved picture is made again from its recipe and compared with itself, pixel by pixel."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from controlnext.errors import ControlNeXtError
from controlnext.recipes.png import read_facts, read_inputs, read_png

if TYPE_CHECKING:
    from controlnext.recipes.inputs import Inputs
    from controlnext.recipes.recipe import Recipe
    from controlnext.studio.studio import Result

_NAMES = {
    "controlnext": "this program",
    "torch": "torch",
    "diffusers": "diffusers",
    "device": "the device",
    "precision": "the precision",
}


class VerifyError(ControlNeXtError, ValueError):
    """A picture that cannot be verified."""


@dataclass(frozen=True)
class Verified:
    """The outcome.

    Attributes:
        largest: largest difference of a pixel in any colour, 0 to 255.
        share: share of the pixels that differ at all, in [0, 1].
        reasons: what differs from when the picture was made; empty where nothing is known to.
    """

    largest: int
    share: float
    reasons: tuple[str, ...]

    @property
    def same(self) -> bool:
        """Whether every pixel is the same."""
        return not self.largest

    def sentence(self) -> str:
        """Say what came out, and why."""
        if self.same:
            return "The recipe makes the same picture again: every pixel is the same."
        found = f"The largest difference of a pixel is {self.largest} of 255, and {100 * self.share:.1f} % of the pixels differ"
        why = "; ".join(self.reasons) or "nothing that the picture records has changed, so it may have been edited"
        return f"{found}: {why}."


def verify(file: Path, draw: Callable[[Recipe, Inputs], Result]) -> Verified:
    """Make a saved picture again and compare.

    Args:
        file: a PNG with its recipe inside.
        draw: runs a recipe, as `Studio.generate`; its file is removed again.

    Raises:
        VerifyError: it carries no recipe.
        ControlNeXtError: as `Studio.generate`.
    """
    recipe = read_png(file)
    if recipe is None:
        raise VerifyError(
            "This picture carries no recipe, so it cannot be made again; give a PNG as this app saved it."
        )
    with Image.open(file) as opened:
        before = np.asarray(opened.convert("RGB")).astype(int)
    if recipe.precision:
        raise VerifyError(
            "This is a live picture, which is made in another way than others: press Generate for one to verify."
        )
    result = draw(recipe, read_inputs(file))
    facts = _made_with(result.files[0])
    result.files[0].unlink(missing_ok=True)
    after = np.asarray(result.images[0].convert("RGB")).astype(int)
    if before.shape != after.shape:
        raise VerifyError(
            f"The picture has {before.shape[1]}x{before.shape[0]} pixels and its recipe {recipe.width}x{recipe.height}: it was resized."
        )
    apart = np.abs(before - after).max(axis=2)
    return Verified(
        int(apart.max()), float((apart > 0).mean()), _reasons(recipe, result.recipe, _made_with(file), facts)
    )


def _made_with(file: Path) -> Mapping[str, Any]:
    found = read_facts(file).get("made_with")
    return found if isinstance(found, dict) else {}


def _reasons(recipe: Recipe, again: Recipe, before: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[str, ...]:
    reasons = [
        f"other weights ({name}: {again.weights.get(name, 'none')[:12]} for {digest[:12]})"
        for name, digest in recipe.weights.items()
        if again.weights.get(name) != digest
    ]
    for name, said in _NAMES.items():
        if name in before and name in now and before[name] != now[name]:
            reasons.append(f"{said} was {before[name]} and is {now[name]}")
    if not before:
        reasons.append("it does not record the versions and the device it was made with")
    elif before.get("batch") != now.get("batch"):
        reasons.append(f"it was made in a batch of {before.get('batch')}, where sums are added in another order")
    return tuple(reasons)
