"""A live picture: few steps of what the page shows, not saved, and how well it follows its condition."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from controlnext.adherence.joints import joint_drift
from controlnext.adherence.measure import reading_options
from controlnext.adherence.score import SCORES, score
from controlnext.recipes.kinds import POSE, kind_of

if TYPE_CHECKING:
    from PIL import Image

    from controlnext.adherence.measure import Annotate, Asked
    from controlnext.recipes.recipe import Recipe


@dataclass(frozen=True)
class LivePicture:
    """A picture of few steps.

    Attributes:
        image: RGB.
        recipe: what made it, with its steps and its precision.
        asked: the conditions in the size of the picture.
        seconds: time it took, without waiting for others.
        lora: the LoRA for few steps that it used; empty if none.
        eight_bits: whether parts of the model worked in 8-bit integers.
        notes: a sentence for each control that cannot act.
    """

    image: Image.Image
    recipe: Recipe
    asked: tuple[Asked, ...]
    seconds: float
    lora: str = ""
    eight_bits: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Followed:
    """How well a picture follows its first condition.

    Attributes:
        score: in [0, 1]; None where it cannot be measured.
        name: what the score is called.
        drift: distance of each asked joint in figure heights, a list a person; empty for other kinds than poses.
    """

    score: float | None
    name: str = ""
    drift: tuple[tuple[float | None, ...], ...] = ()


def follow(annotate: Annotate, picture: LivePicture, backend: str) -> Followed:
    """Read a live picture again and compare it with its first condition.

    Args:
        annotate: `annotate(name, image, backend=..., **settings)`.
        picture: what was drawn.
        backend: annotator backend that can read the model's pictures, or `auto`.
    """
    control = next(iter(picture.recipe.all_controls), None)
    if control is None or control.condition_kind not in SCORES:
        return Followed(None)
    kind, asked = control.condition_kind, picture.asked[0]
    settings = control.annotator_settings if control.annotator == kind else {}
    wanted = (asked.data or {}).get("people") or []
    try:
        found = annotate(kind, picture.image, **reading_options(kind, settings, backend))
    except Exception as error:  # reading is an extra, and its errors come from a package that this one does not import
        nobody = getattr(error, "found_nothing", False)
        drift = joint_drift(wanted, ()) if nobody and kind == POSE else []
        return Followed(0.0 if nobody else None, kind_of(kind).score, tuple(map(tuple, drift)))
    drift = joint_drift(wanted, (found.data or {}).get("people") or []) if kind == POSE else []
    return Followed(score(kind, asked, found), kind_of(kind).score, tuple(map(tuple, drift)))
