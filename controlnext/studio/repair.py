"""Repair: a picture is drawn again with stronger control where it drifted, and only there; what does not raise its score is dropped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from controlnext.adherence.measure import Annotate, fitted, reading_options
from controlnext.adherence.score import SCORES, score
from controlnext.errors import ControlNeXtError
from controlnext.method.gamma import parse_gamma
from controlnext.recipes.inputs import Inputs
from controlnext.recipes.limits import LIMITS
from controlnext.recipes.png import read_inputs, read_png
from controlnext.recipes.recipe import Recipe

if TYPE_CHECKING:
    from controlnext.recipes.inputs import Annotated
    from controlnext.studio.studio import Result

STRONGER = 1.5
"""What gamma is multiplied by."""

REPAIR_STRENGTH = 0.7
"""Share of a region that is redrawn."""

MOST_REGIONS = 3
"""Regions that are tried, one run each."""


class RepairError(ControlNeXtError, ValueError):
    """A picture that cannot be repaired."""


@dataclass(frozen=True)
class RepairTry:
    """One region.

    Attributes:
        area: share of the picture, in [0, 1].
        score: adherence of the whole picture with the new region.
        kept: whether that was more than before.
    """

    area: float
    score: float
    kept: bool


@dataclass(frozen=True)
class Repaired:
    """The end of a repair.

    Attributes:
        file: the picture, a saved result with its recipe; the one that was given where nothing was better.
        before: adherence in [0, 1].
        after: the same, never less.
        tries: what was tried in order.
    """

    file: Path
    before: float
    after: float
    tries: tuple[RepairTry, ...]

    def sentence(self) -> str:
        """Say what came out."""
        if not self.tries:
            return f"Nothing to repair: the picture follows its condition by {100 * self.before:.0f} %, and no region drifted."
        kept = sum(one.kept for one in self.tries)
        regions = f"{len(self.tries)} region{'s' if len(self.tries) > 1 else ''}"
        if not kept:
            return (
                f"Drawn again, none of {regions} followed better, so the picture stays at {100 * self.before:.0f} %."
            )
        return f"{kept} of {regions} kept: adherence rose from {100 * self.before:.0f} % to {100 * self.after:.0f} %."


@dataclass
class Repairer:
    """What a repair works with.

    Attributes:
        annotate: reads pictures, as of the package `annotators`.
        backend: annotator backend that can read the model's pictures, or `auto`.
        draw: runs one recipe, as `Studio.generate`.
    """

    annotate: Annotate
    backend: str
    draw: Callable[[Recipe, Inputs], Result]

    def repair(self, file: Path) -> Repaired:
        """Repair a saved result.

        Args:
            file: a PNG with its recipe and its condition inside.

        Raises:
            RepairError: it has none, or its kind of control cannot be measured.
            ControlNeXtError: as `Studio.generate`.
        """
        from controlnext.adherence.drift import drift_map, drifted_regions

        recipe, inputs = _saved(file)
        kind, size = recipe.condition_kind, (recipe.width, recipe.height)
        asked = fitted(inputs.conditions[0], kind, size)
        with Image.open(file) as opened:
            image = opened.convert("RGB")
        found = self._read(recipe, image)
        before = best = _score(kind, asked, found)
        tried, tries = np.zeros((size[1], size[0]), bool), []
        for number in range(1, MOST_REGIONS + 1):
            drift = np.ones_like(tried) if found is None else drift_map(kind, asked, found)
            regions = [one for one in drifted_regions(drift & ~tried) if best < 1]
            if not regions:
                break
            region = regions[0]
            tried |= region
            mask = Image.fromarray(region.astype(np.uint8) * 255)
            result = self.draw(
                _stronger(recipe, number), Inputs(inputs.conditions, image, mask, reference=inputs.reference)
            )
            again = self._read(recipe, result.images[0])
            value = _score(kind, asked, again)
            tries.append(RepairTry(float(region.mean()), value, value > best))
            if value > best:
                best, found, image, file = value, again, result.images[0], result.files[0]
            else:
                result.files[0].unlink(missing_ok=True)  # nobody asked for a worse one
        return Repaired(file, before, best, tuple(tries))

    def _read(self, recipe: Recipe, image: Image.Image) -> Annotated | None:
        """Annotate a picture as its condition was; None where nothing was found in it."""
        kind = recipe.condition_kind
        settings = recipe.annotator_settings if recipe.annotator == kind else {}
        try:
            return self.annotate(kind, image, **reading_options(kind, settings, self.backend))
        except Exception as error:
            if getattr(error, "found_nothing", False):  # the annotators' own error, which this room does not import
                return None
            raise RepairError(f"The adherence of this picture cannot be measured: {error}") from error


def _saved(file: Path) -> tuple[Recipe, Inputs]:
    recipe, inputs = read_png(file), read_inputs(file)
    if recipe is None or not inputs.conditions:
        raise RepairError("This picture carries no recipe with a condition; give a PNG as this app saved it.")
    if recipe.upscale > 1:
        raise RepairError(f"{file.name} was enlarged; repair the picture that it was made from, and enlarge that.")
    if recipe.condition_kind not in SCORES:
        raise RepairError(
            f"The adherence to {recipe.condition_kind} cannot be measured, so nothing says what drifted; "
            f"{', '.join(SCORES)} can be repaired."
        )
    return recipe, inputs


def _score(kind: str, asked: Annotated, found: Annotated | None) -> float:
    value = 0.0 if found is None else score(kind, asked, found)
    if value is None:
        raise RepairError("The condition of this picture asks for nothing, so nothing can drift.")
    return value


def _stronger(recipe: Recipe, number: int) -> Recipe:
    peak = parse_gamma(recipe.gamma_curve).peak if recipe.gamma_curve else 1.0
    gamma = min(STRONGER * max(recipe.gamma, 0.5), LIMITS["gamma"].maximum / max(peak, 1e-6), LIMITS["gamma"].maximum)
    seed = min(recipe.seed + number, int(LIMITS["seed"].maximum))
    pictures = {"init_sha256": "", "mask_sha256": "", "weights": {}, "detail": ()}
    strength = REPAIR_STRENGTH if int(REPAIR_STRENGTH * recipe.num_inference_steps) else 1.0
    return recipe.replace(gamma=gamma, seed=seed, num_images=1, strength=strength, **pictures)
