"""A character for a video: the figure of a photograph, drawn by an image model in the photograph's own pose.

A video model that knows one drawn world makes mush of a photograph. It moves a figure of that world, so the photograph becomes one
first: its pose is the control, and words for the colours of hair, clothes and ground are the prompt.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from controlnext.recipes.inputs import Inputs
from controlnext.recipes.kinds import POSE
from controlnext.studio.conditions import map_resolution

PICTURES = 4
"""How many are drawn, of which the one in the right colours is kept."""

_COLOURED = re.compile(r"(\w+) (hair|hat|shirt|trousers)")

if TYPE_CHECKING:
    from PIL import Image

    from controlnext.models.catalogue import Catalogue
    from controlnext.recipes.recipe import Recipe
    from controlnext.studio.protocols import Annotators
    from controlnext.studio.studio import Result


def character_order(
    catalogue: Catalogue,
    annotators: Annotators,
    photograph: Image.Image,
    words: str,
    *,
    size: tuple[int, int],
    model: str,
    seed: int = -1,
) -> tuple[Recipe, Inputs]:
    """Return what draws the figure of a photograph: a recipe of `PICTURES` pictures, and its pose.

    Args:
        catalogue: knows the model.
        annotators: read the pose.
        photograph: upright RGB picture of one person.
        words: the prompt, such as `annotators.describe_figure` gives it.
        size: width and height of the pictures.
        model: an image model with a pose adapter.
        seed: of the picture; -1 draws one.

    Raises:
        AnnotatorError: nobody is seen in the photograph.
        ControlNeXtError: the model has no pose adapter.
    """
    width, height = size
    pose = annotators.annotate(POSE, photograph, resolution=map_resolution(width, height))
    recipe = catalogue.resolve(model, POSE, prompt=words, seed=seed, num_images=PICTURES, width=width, height=height)
    return recipe, Inputs((pose,))


def in_the_right_colours(result: Result, words: str, annotators: Annotators) -> int:
    """Return which picture of a result shows most of the colours that its words name; of equal ones the one that follows best."""
    asked = _colours(words)

    def worth(number: int) -> tuple[float, float]:
        seen = _colours(annotators.describe_figure(result.images[number]))
        wrong = sum(asked.get(part) != seen.get(part) for part in asked.keys() | seen.keys())
        return -wrong, result.adherence[number] or 0.0

    return max(range(len(result.images)), key=worth)


def _colours(words: str) -> dict[str, str]:
    return {part: colour for colour, part in _COLOURED.findall(words)}
