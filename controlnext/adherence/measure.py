"""Measurement of adherence: annotates a result and scores it against its condition."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from controlnext.adherence.score import SCORES, score
from controlnext.adherence.skeletons import joints_in_drawing
from controlnext.recipes.inputs import Annotated
from controlnext.recipes.kinds import AUTO, POSE, kind_of
from controlnext.recipes.pictures import fit_box, fit_condition

if TYPE_CHECKING:
    from controlnext.recipes.recipe import ControlUse

logger = logging.getLogger(__name__)

Annotate = Callable[..., Annotated]


@dataclass(frozen=True)
class Asked:
    """A condition as a run uses it: the picture in the size to be made, and what is known of it as data."""

    image: Image.Image
    data: Mapping[str, Any] | None = None


def fitted(condition: Image.Image | Annotated, kind: str, size: tuple[int, int], *, crop: bool = False) -> Asked:
    """Bring a condition to the size of the picture to be made, its people with it.

    Args:
        condition: a picture, or an annotation that knows its people as data.
        kind: which condition it is.
        size: width and height in pixels.
        crop: whether to crop instead of padding.

    Returns:
        The condition to run with.
    """
    image = condition if isinstance(condition, Image.Image) else condition.image
    people = None if isinstance(condition, Image.Image) else (condition.data or {}).get("people")
    if people is None and kind == POSE:
        people = joints_in_drawing(np.asarray(image.convert("RGB")))  # before its dots are made smaller
    if people is not None:
        left, top, width, height = fit_box(image.size, *size, crop=crop)
        zoom = np.array([width / image.width, height / image.height, 1.0])
        people = [np.asarray(person, dtype=np.float64).reshape(-1, 3) * zoom + (left, top, 0.0) for person in people]
    return Asked(fit_condition(image, *size, kind, crop=crop), None if people is None else {"people": people})


def reading_options(kind: str, settings: Mapping[str, Any], backend: str) -> dict[str, Any]:
    """Return the options that a result is annotated with, so that it can be compared with its condition.

    Args:
        kind: which condition it is.
        settings: those of the condition's annotator, `backend` among them where one was chosen.
        backend: annotator backend that can read the model's pictures; `auto` leaves the condition's own.

    Returns:
        Options of `annotate`.
    """
    own = dict(settings)
    chosen = own.pop("backend", AUTO)
    return own if kind_of(kind).same_settings else {"backend": chosen if backend == AUTO else backend}


def read_again(annotate: Annotate, control: ControlUse, asked: Asked, result: Image.Image, backend: str) -> Annotated:
    """Annotate a result as its condition was annotated; where nobody is found, an annotation without people.

    Args:
        annotate: `annotate(name, image, backend=..., **settings)`.
        control: how the condition came about.
        asked: the condition.
        result: the picture made.
        backend: annotator backend that can read the model's pictures, or `auto`.

    Raises:
        Exception: the annotators' own errors.
    """
    try:
        return _read(annotate, control, result, backend)
    except Exception as error:
        if not found_nothing(error):
            raise
        return Asked(Image.new("RGB", asked.image.size), {"people": []})


def _read(annotate: Annotate, control: ControlUse, result: Image.Image, backend: str) -> Annotated:
    kind = control.condition_kind
    settings = control.annotator_settings if control.annotator == kind else {}
    return annotate(kind, result, **reading_options(kind, settings, backend))


def found_nothing(error: Exception) -> bool:
    """Whether an error says that a picture shows nothing of a kind: the annotators' own, which this room does not import."""
    return bool(getattr(error, "found_nothing", False))


def measure(
    annotate: Annotate | None, control: ControlUse, asked: Asked, result: Image.Image, backend: str
) -> float | None:
    """Annotate a result as its condition was annotated, and compare.

    Args:
        annotate: `annotate(name, image, backend=..., **settings)`; None measures nothing.
        control: how the condition came about.
        asked: the condition.
        result: the picture made.
        backend: annotator backend that can read the model's pictures, or `auto`.

    Returns:
        Score in [0, 1]; None if it cannot be measured, which never costs a picture.
    """
    kind = control.condition_kind
    if annotate is None or kind not in SCORES:
        return None
    try:
        return score(kind, asked, _read(annotate, control, result, backend))
    except Exception as error:  # a score is an extra: its failure must not lose the picture
        if found_nothing(error):
            return 0.0
        logger.info("The adherence to %s could not be measured: %s", kind, error)
        return None
