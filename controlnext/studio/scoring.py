"""The adherence of any picture to any condition, measured as that of finished pictures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from controlnext.adherence.measure import Annotate, fitted, measure
from controlnext.adherence.score import SCORES
from controlnext.errors import ControlNeXtError, shorten
from controlnext.recipes.kinds import AUTO
from controlnext.recipes.recipe import ControlUse

if TYPE_CHECKING:
    from PIL import Image

    from controlnext.recipes.inputs import Annotated


class ScoreError(ControlNeXtError, ValueError):
    """A score that cannot be measured."""


def score_picture(
    annotate: Annotate,
    image: Image.Image,
    condition: Image.Image | Annotated,
    kind: str,
    settings: Mapping[str, Any] | None = None,
    backend: str = AUTO,
) -> float:
    """Measure how well a picture follows a condition.

    Args:
        annotate: `annotate(name, image, backend=..., **settings)`.
        image: the picture.
        condition: the map; brought to the picture's size.
        kind: of the condition; a key of `SCORES`.
        settings: of the annotator that made the condition, such as the thresholds of edges.
        backend: annotator backend that can read the picture, or `auto`.

    Returns:
        Adherence in [0, 1].

    Raises:
        ScoreError: there is no measure for this kind, the condition asks for nothing, or the picture cannot be read.
        RecipeError: a setting is no plain value.
    """
    if kind not in SCORES:
        raise ScoreError(f"There is no measure for {shorten(kind)}; choose one of {', '.join(SCORES)}.")
    control = ControlUse(annotator=kind, annotator_settings=dict(settings or {}))
    value = measure(annotate, control, fitted(condition, kind, image.size), image, backend)
    if value is None:
        raise ScoreError(
            f"The adherence to this {kind} map cannot be measured: the map asks for nothing, or the picture cannot be read. Check "
            "that the condition is a map of that kind, and the settings."
        )
    return value
