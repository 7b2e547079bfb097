"""Why a control cannot act on a picture: the likely cause in one sentence, before anybody wonders about the result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from controlnext.method.gamma import parse_gamma
from controlnext.recipes.kinds import kind_of

if TYPE_CHECKING:
    from controlnext.adherence.measure import Asked
    from controlnext.recipes.recipe import ControlUse, Recipe


def no_effect(recipe: Recipe, asked: Sequence[Asked]) -> tuple[str, ...]:
    """Return a sentence for each control of a recipe that does nothing, and for a negative prompt that does nothing.

    Args:
        recipe: what is run.
        asked: its conditions in the size of the picture, one for each control.
    """
    found = []
    if recipe.negative_prompt and recipe.guidance_scale <= 1:
        found.append(
            "The negative prompt has no effect, as there is no guidance: raise guidance above 1, and take more steps without a "
            "LoRA for few steps."
        )
    for control, condition in zip(recipe.all_controls, asked, strict=True):
        label = kind_of(control.condition_kind).label
        if _silent(control):
            found.append(f"{label} control has no effect, as its strength (gamma) is 0: raise it.")
        elif not _steps_inside(control, recipe.steps_to_run):
            found.append(
                f"{label} control has no effect, as no step of {recipe.steps_to_run} lies between "
                f"{control.control_start:g} and {control.control_end:g}: widen the window or take more steps."
            )
        elif _is_blank(condition):
            found.append(f"{label} control has no effect, as its map is blank: give a picture that shows more of it.")
    return tuple(found)


def _silent(control: ControlUse) -> bool:
    return control.gamma == 0 or (bool(control.gamma_curve) and parse_gamma(control.gamma_curve).peak == 0)


def _steps_inside(control: ControlUse, steps: int) -> int:
    """Count the steps that lie wholly inside of the control window, as the pipelines do."""
    start, end = control.control_start, control.control_end
    return sum(start <= index / steps and (index + 1) / steps <= end for index in range(steps))


def _is_blank(condition: Asked) -> bool:
    """Whether all pixels of a map are alike."""
    pixels = np.asarray(condition.image.convert("RGB"))
    return bool((pixels == pixels[0, 0]).all())
