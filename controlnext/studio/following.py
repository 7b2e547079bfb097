"""What a saved picture followed of its condition: the picture is read again, and both are laid over each other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from controlnext.adherence.measure import fitted, read_again
from controlnext.adherence.overlay import OVERLAYS, Overlay, overlay
from controlnext.errors import ControlNeXtError
from controlnext.recipes.kinds import kind_of
from controlnext.recipes.png import read_inputs, read_png

if TYPE_CHECKING:
    from controlnext.adherence.measure import Annotate


class FollowingError(ControlNeXtError, ValueError):
    """A picture for which nobody can say what it followed."""


def following(annotate: Annotate, file: Path, backend_of: Callable[[str], str]) -> Overlay:
    """Read a saved picture again and draw what it followed of its first condition.

    Args:
        annotate: `annotate(name, image, backend=..., **settings)`.
        file: a PNG with its recipe and its conditions inside.
        backend_of: gives the annotator backend that can read the pictures of a model, or `auto`.

    Raises:
        FollowingError: it carries no recipe or no condition, or its kind of condition has no measure.
    """
    recipe = read_png(file)
    control = next(iter(recipe.all_controls), None) if recipe else None
    condition = next(iter(read_inputs(file).conditions), None) if control else None
    if recipe is None or control is None or condition is None:
        raise FollowingError(f"{file.name} was not made with a control, so there is nothing that it could follow.")
    kind = control.condition_kind
    with Image.open(file) as opened:
        picture = opened.convert("RGB")
    asked = fitted(condition, kind, picture.size)
    found = read_again(annotate, control, asked, picture, backend_of(recipe.model)) if kind in OVERLAYS else asked
    made = overlay(kind, picture, asked, found)
    if made is None:
        raise FollowingError(f"{kind_of(kind).label} control has no measure of what a picture follows.")
    return made
