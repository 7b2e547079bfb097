"""Pictures of a run, brought to its size and checked against its recipe."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from controlnext.adherence.measure import Asked, fitted
from controlnext.adherence.person_areas import person_areas
from controlnext.recipes.inputs import Inputs, fitted_start
from controlnext.recipes.kinds import POSE
from controlnext.recipes.recipe import DEFAULT_STRENGTH, Recipe, RecipeError

if TYPE_CHECKING:
    from controlnext.models.presets import Preset


REFERENCE_SIDE = 512
"""Pixels of a reference that are kept; image encoders read 224."""


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
    if (drawn := given.drawn) and (recipe.num_images > 1 or drawn.image.size != size):
        raise RecipeError(
            f"A picture that is enhanced is one of its recipe's size, {recipe.width}x{recipe.height}, not {recipe.num_images} of "
            f"{drawn.image.width}x{drawn.image.height}."
        )
    if drawn and recipe.detail[: len(drawn.detail)] != drawn.detail:
        raise RecipeError(
            f"The picture has {' and '.join(drawn.detail)} in detail already, which its recipe does not name first; it names "
            f"{' and '.join(recipe.detail) or 'nothing'}."
        )
    if recipe.ip_adapter and given.reference is None:
        raise RecipeError(
            f"The recipe takes looks from a reference by {recipe.ip_adapter}, but none was given; add one."
        )
    if given.reference is not None and not recipe.ip_adapter:
        raise RecipeError(
            "A reference picture needs an IP-Adapter: name its file as ip_adapter, or leave the picture out."
        )
    init, mask = fitted_start(given, size, crop=recipe.crop)
    if init is not None and recipe.strength is None:
        recipe = recipe.replace(strength=DEFAULT_STRENGTH)
    asked = tuple(
        fitted(condition, control.condition_kind, size, crop=recipe.crop)
        for condition, control in zip(given.conditions, controls, strict=True)
    )
    return (
        recipe,
        asked,
        Inputs(
            tuple(one.image for one in asked),
            init,
            mask,
            given.drawn,
            _people(recipe, asked),
            bounded(given.reference),
        ),
    )


def bounded(reference: Image.Image | None) -> Image.Image | None:
    """Return a reference as the picture carries it, at most `REFERENCE_SIDE` pixels a side; one that is so stays."""
    if reference is None:
        return None
    small = reference.convert("RGB")
    small.thumbnail((REFERENCE_SIDE, REFERENCE_SIDE), Image.Resampling.LANCZOS)
    return small


def _people(recipe: Recipe, asked: tuple[Asked, ...]) -> tuple[np.ndarray, ...]:
    """Find the areas of the people that a recipe has words for, in the condition as it is kept.

    Raises:
        RecipeError: there are fewer people.
    """
    if not recipe.people:
        return ()
    pose = next(one for one, control in zip(asked, recipe.all_controls, strict=True) if control.condition_kind == POSE)
    areas = person_areas(np.asarray(pose.image))
    if len(areas) < len(recipe.people):
        raise RecipeError(
            f"There are words for {len(recipe.people)} people, and the pose shows {len(areas)}; give words to as many."
        )
    return tuple(areas[: len(recipe.people)])


def differences(recipe: Recipe, final: Recipe) -> tuple[str, ...]:
    """Return sentences about weights and pictures that differ between a recipe as it was given and as it is run."""
    notes = []
    changed = [name for name, old in recipe.weights.items() if final.weights.get(name, old) != old]
    if changed:
        notes.append(f"The recipe was made with other weights ({', '.join(changed)}), so the picture may differ.")
    pairs = [("condition", recipe.condition_sha256, final.condition_sha256)]
    pairs += [
        (f"{before.condition_kind} condition", before.condition_sha256, after.condition_sha256)
        for before, after in zip(recipe.controls, final.controls, strict=True)
    ]
    pairs += [
        ("start picture", recipe.init_sha256, final.init_sha256),
        ("mask", recipe.mask_sha256, final.mask_sha256),
        ("reference", recipe.reference_sha256, final.reference_sha256),
    ]
    for what, before, after in pairs:
        if before not in ("", after):
            notes.append(f"The recipe was made with another {what}, so the picture will differ.")
    return tuple(notes)
