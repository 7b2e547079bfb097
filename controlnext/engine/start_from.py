"""Roads into a picture: from noise, from a start picture, or from a start picture whose masked part is repainted.

All three share the loaded model; a road is another pipeline class on the same components, made by `from_pipe`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from PIL import Image

from controlnext.method import pipelines
from controlnext.quiet import quiet_loading

if TYPE_CHECKING:
    from controlnext.recipes.inputs import Inputs
    from controlnext.recipes.recipe import Recipe


@dataclass(frozen=True)
class Road:
    """Pipeline classes that go on from the components of a text-to-image pipeline."""

    from_picture: str
    under_mask: str


ROADS: Mapping[str, Road] = MappingProxyType(
    {
        "StableDiffusionControlNeXtPipeline": Road(
            "StableDiffusionControlNeXtImg2ImgPipeline", "StableDiffusionControlNeXtInpaintPipeline"
        ),
        "StableDiffusionXLControlNeXtPipeline": Road(
            "StableDiffusionXLControlNeXtImg2ImgPipeline", "StableDiffusionXLControlNeXtInpaintPipeline"
        ),
    }
)
"""Text-to-image class of `controlnext.method.pipelines` -> its other roads."""


def take(pipeline: Any, recipe: Recipe, inputs: Inputs) -> tuple[Any, dict[str, Any]]:  # noqa: ANN401 - diffusers' pipelines
    """Choose the pipeline for what a run starts from.

    Args:
        pipeline: the loaded text-to-image pipeline.
        recipe: gives the size, and the strength where there is a start picture.
        inputs: start picture and mask in the recipe's size, where there are any.

    Returns:
        The pipeline to call, and the arguments that say where it starts.
    """
    size = {"width": recipe.width, "height": recipe.height}
    if inputs.init_image is None:
        return pipeline, size
    road = ROADS[type(pipeline).__name__]
    start = {"image": inputs.init_image, "strength": recipe.strength}
    if inputs.mask is not None:
        name, start = road.under_mask, start | size | {"mask_image": inputs.mask}
    else:
        name = road.from_picture  # these take their size from the picture
    with quiet_loading():  # nothing is cast, but diffusers warns that something could be
        other = getattr(pipelines, name).from_pipe(pipeline)
    other.set_progress_bar_config(disable=True)
    return other, start


def keep_unmasked(image: Image.Image, inputs: Inputs) -> Image.Image:
    """Put back what the mask leaves black: decoding changes every pixel a little, and those were not asked for."""
    if inputs.mask is None:
        return image
    return Image.composite(image, inputs.init_image, inputs.mask)
