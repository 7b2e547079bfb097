"""The score of a picture that was just made, with the annotators the studio was given."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from controlnext.adherence.score import NAMES, Annotated, score
from controlnext.adherence.skeletons import joints_in_drawing
from controlnext.recipes.pictures import fit_box, fit_condition

if TYPE_CHECKING:
    from controlnext.models.presets import Preset
    from controlnext.recipes.recipe import ControlUse

log = logging.getLogger(__name__)

Annotate = Callable[..., Annotated]


@dataclass(frozen=True)
class Asked:
    """A condition as a run uses it: the picture in the size to be made, and what is known of it as data."""

    image: Image.Image
    data: Mapping[str, Any] | None = None


def fitted(condition: Image.Image | Annotated, kind: str, size: tuple[int, int]) -> Asked:
    """Bring a condition to the size of the picture to be made, its people with it.

    Args:
        condition: a picture, or an annotation that knows its people as data.
        kind: which condition it is.
        size: width and height in pixels.

    Returns:
        The condition to run with.
    """
    image = condition if isinstance(condition, Image.Image) else condition.image
    people = None if isinstance(condition, Image.Image) else (condition.data or {}).get("people")
    if people is None and kind == "pose":
        people = joints_in_drawing(np.asarray(image.convert("RGB")))  # before its dots are made smaller
    if people is not None:
        left, top, width, height = fit_box(image.size, *size)
        zoom = np.array([width / image.width, height / image.height, 1.0])
        people = [np.asarray(person, dtype=np.float64).reshape(-1, 3) * zoom + (left, top, 0.0) for person in people]
    return Asked(fit_condition(image, *size, kind), None if people is None else {"people": people})


def adherence_name(kind: str) -> str:
    """What the score of a kind of condition is called; empty if there is none."""
    return NAMES.get(kind, "")


def measure(
    annotate: Annotate | None, preset: Preset, control: ControlUse, asked: Asked, result: Image.Image
) -> float | None:
    """Annotate a result as its condition was annotated, and compare.

    Args:
        annotate: `annotate(name, image, backend=..., **settings)`; None measures nothing.
        preset: names the backend that can read this model's pictures.
        control: how the condition came about.
        asked: the condition.
        result: the picture made.

    Returns:
        Score in [0, 1]; None if it cannot be measured, which never costs a picture.
    """
    kind = control.condition_kind
    if annotate is None or kind not in NAMES:
        return None
    own = {key: value for key, value in control.annotator_settings.items() if control.annotator == kind}
    backend = own.pop("backend", "auto")
    if kind == "canny":  # edges are a matter of the very same thresholds; the other kinds are read, not tuned
        options = own
    else:
        options = {"backend": preset.adherence_backend if preset.adherence_backend != "auto" else backend}
    try:
        return score(kind, asked, annotate(kind, result, **options))
    except Exception as error:  # measuring is an extra: whatever fails here, the picture is there
        if type(error).__name__ == "NobodyFound":  # the annotators' own error; this room does not import theirs
            return 0.0
        log.info("The adherence to %s could not be measured: %s", kind, error)
        return None
