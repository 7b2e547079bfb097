"""Start modes of a run: from noise, from a start picture, or inpainting under a mask.

All three share the loaded model: each is another pipeline class on the same components, made by `from_pipe`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from PIL import Image

from controlnext.method import pipelines
from controlnext.method.families import FAMILIES
from controlnext.quiet import quiet_loading

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

    from controlnext.recipes.inputs import Inputs
    from controlnext.recipes.recipe import Recipe


def start_of(
    pipeline: DiffusionPipeline, family: str, recipe: Recipe, inputs: Inputs
) -> tuple[DiffusionPipeline, dict[str, Any]]:
    """Choose the pipeline for what a run starts from.

    Args:
        pipeline: the loaded text-to-image pipeline.
        family: of the base model.
        recipe: gives the size, and the strength where there is a start picture.
        inputs: start picture and mask in the recipe's size, where there are any.

    Returns:
        The pipeline to call, and the arguments that say where it starts.
    """
    size = {"width": recipe.width, "height": recipe.height}
    if inputs.init_image is None:
        return pipeline, size
    row = FAMILIES[family]
    start = {"image": inputs.init_image, "strength": recipe.strength}
    if inputs.mask is not None:
        name, start = row.under_mask, start | size | {"mask_image": inputs.mask}
    else:
        name = row.from_picture  # these take their size from the picture
    with quiet_loading():  # nothing is cast, but diffusers warns that something could be
        other = getattr(pipelines, name).from_pipe(pipeline)
    other.set_progress_bar_config(disable=True)
    return other, start


def keep_unmasked(image: Image.Image, inputs: Inputs) -> Image.Image:
    """Put back what the mask leaves black: decoding changes every pixel a little, and those were not asked for."""
    if inputs.mask is None:
        return image
    return Image.composite(image, inputs.init_image, inputs.mask)
