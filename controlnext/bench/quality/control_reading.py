"""How ControlBench reads pictures: by the annotators, with the backend that knows the model's pictures."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from PIL import Image

import annotators
from annotators.base import AnnotatorError
from controlnext.adherence.measure import Asked, found_nothing, reading_options

if TYPE_CHECKING:
    from controlnext.recipes.inputs import Annotated

Read = Callable[[str, Image.Image], "Annotated"]


def reader_of(backend: str) -> Read:
    """Return what annotates pictures of a model whose own backend is named; a picture that shows nobody has no people."""

    def read(kind: str, picture: Image.Image) -> Annotated:
        try:
            return annotators.annotate(kind, picture, **reading_options(kind, {}, backend))
        except AnnotatorError as error:
            if not found_nothing(error):
                raise
            return Asked(Image.new("RGB", picture.size), {"people": []})

    return read
