"""Pictures of a run, brought to its size and checked against its recipe."""

from __future__ import annotations

from typing import TYPE_CHECKING

from controlnext.adherence.measure import Asked, fitted
from controlnext.recipes.inputs import Inputs, fitted_start
from controlnext.recipes.recipe import DEFAULT_STRENGTH, Recipe, RecipeError

if TYPE_CHECKING:
    from controlnext.models.presets import Preset


def prepared(recipe: Recipe, given: Inputs, preset: Preset) -> tuple[Recipe, tuple[Asked, ...], Inputs]:
    """Resize all pictures of a run, and check that they are those the recipe asks for.

    Args:
        recipe: what is to be made.
        given: pictures of any size.
        preset: the model's.

    Returns:
        The recipe with the strength of a start picture, the conditions with their data, and all pictures in its size.

    Raises:
        RecipeError: pictures are missing, or there are too many.
    """
    controls, size = recipe.all_controls, (recipe.width, recipe.height)
    if controls and len(given.conditions) < len(controls):
        kinds = " and ".join(control.condition_kind for control in controls)
        count = len(given.conditions)
        if not count:
            raise RecipeError(f"The recipe asks for {kinds} control, but no condition picture was given; add one.")
        raise RecipeError(
            f"The recipe asks for {kinds} control, but {count} condition picture{'s were' if count > 1 else ' was'} given; "
            "give one for each."
        )
    if given.conditions and not controls:
        raise RecipeError(
            f"A picture that already is a condition needs its kind; choose one of {', '.join(preset.adapters)}."
        )
    if len(given.conditions) > len(controls):
        raise RecipeError(
            f"{len(given.conditions)} condition pictures were given for {len(controls)} controls; give one for each."
        )
    if given.init_image is None and given.mask is None and (recipe.strength is not None or recipe.init_sha256):
        raise RecipeError(
            "The recipe starts from a picture (strength), but none was given; add one, or remove the strength."
        )
    if given.mask is None and recipe.mask_sha256:
        raise RecipeError("The recipe repaints under a mask, but none was given; add the mask.")
    init, mask = fitted_start(given, size, crop=recipe.crop)
    if init is not None and recipe.strength is None:
        recipe = recipe.replace(strength=DEFAULT_STRENGTH)
    asked = tuple(
        fitted(condition, control.condition_kind, size, crop=recipe.crop)
        for condition, control in zip(given.conditions, controls, strict=True)
    )
    return recipe, asked, Inputs(tuple(one.image for one in asked), init, mask)
