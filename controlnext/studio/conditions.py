"""Conditions of uploads, made in the same way for the page, the API, the command line and batches."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from controlnext.errors import ControlNeXtError
from controlnext.recipes.kinds import POSE, READY_MADE

if TYPE_CHECKING:
    from PIL import Image

    from controlnext.recipes.recipe import ControlUse, Recipe
    from controlnext.studio.protocols import Annotators, MadeCondition

EDITED = "Pose editor"
"""Label of a condition that was drawn from an edited pose."""

SMALLEST_MAP, LARGEST_MAP = 256, 1024
"""Shortest side of a condition in pixels."""


class ConditionRequestError(ControlNeXtError, ValueError):
    """A request for a condition that no annotator can serve."""


@dataclass(frozen=True)
class TimedCondition:
    """A condition, and how it was made.

    Attributes:
        annotation: the picture, the backend that made it, a note about it, and its data.
        milliseconds: time it took.
        label: what people call the backend that made it.
    """

    annotation: MadeCondition
    milliseconds: float
    label: str


def map_resolution(width: int, height: int) -> int:
    """Return the short side of the condition for pictures of a size: lines as dense as the adapter learned them."""
    return min(max(min(width, height), SMALLEST_MAP), LARGEST_MAP)


def chosen_resolution(resolution: int, recipe_size: tuple[int, int]) -> int | None:
    """Return what a recipe keeps of a chosen resolution: None where it is the one that follows from the size."""
    return None if resolution == map_resolution(*recipe_size) else int(resolution)


def condition_of(annotators: Annotators, picture: Image.Image, control: ControlUse, recipe: Recipe) -> TimedCondition:
    """Make the condition that a control of a recipe asks for.

    Args:
        annotators: the studio's.
        picture: the upload, upright RGB; not looked at where the recipe has an edited pose.
        control: names annotator, settings and, where it was chosen, the resolution.
        recipe: gives the size of the picture to be made.

    Raises:
        AnnotatorError: the picture or a setting is not usable; the text says why.
    """
    if recipe.pose and control.condition_kind == POSE:
        return drawn_pose(annotators, recipe.pose)
    resolution = control.resolution or map_resolution(recipe.width, recipe.height)
    return make_condition(annotators, picture, control.annotator, resolution, control.annotator_settings)


def drawn_pose(annotators: Annotators, pose: str) -> TimedCondition:
    """Draw an edited pose as the pose annotator draws what it reads.

    Args:
        annotators: the studio's.
        pose: checked OpenPose JSON.
    """
    begun = time.perf_counter()
    drawing = annotators.draw_pose(annotators.people_from_json(pose))
    return TimedCondition(drawing, 1000 * (time.perf_counter() - begun), EDITED)


def make_condition(
    annotators: Annotators,
    picture: Image.Image,
    name: str,
    resolution: int | None,
    settings: Mapping[str, Any] | None = None,
) -> TimedCondition:
    """Make a condition of a picture.

    Args:
        annotators: the studio's.
        picture: the upload, upright RGB.
        name: key of `ANNOTATORS`; `READY_MADE` takes the picture as it is, in its own size.
        resolution: short side of the condition in pixels; None keeps the picture's size.
        settings: values of the annotator's settings by name, and `backend`; what is missing has its default.

    Raises:
        AnnotatorError: the picture, the annotator or a setting is not usable; the text says why.
        ConditionRequestError: `settings` is no mapping, or names the resolution.
    """
    if settings is not None and not isinstance(settings, Mapping):
        raise ConditionRequestError(
            f'The settings of an annotator are pairs of name and value, such as {{"low": 80}}; got {settings!r:.80}.'
        )
    if "resolution" in (settings or {}):
        raise ConditionRequestError("The resolution is no setting of an annotator; give it as a value of its own.")
    side = None if name == READY_MADE else resolution
    begun = time.perf_counter()
    annotation = annotators.annotate(name, picture, resolution=side, **(settings or {}))
    milliseconds = 1000 * (time.perf_counter() - begun)
    labels = {row["name"]: row["label"] for row in annotators.describe(name)["backends"]}
    return TimedCondition(annotation, milliseconds, labels.get(annotation.backend, annotation.backend))
