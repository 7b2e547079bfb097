"""A saved result: a PNG that carries its recipe, the pictures it was run with and what was measured on it."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from PIL import Image, PngImagePlugin, UnidentifiedImageError

from controlnext import __version__
from controlnext.recipes.inputs import Inputs, picture_of
from controlnext.recipes.parameters import PARAMETERS_KEY, as_parameters
from controlnext.recipes.pictures import picture_digest
from controlnext.recipes.recipe import Recipe, RecipeError

RECIPE_KEY = "controlnext"
FACTS_KEY = "controlnext:result"


def write_png(
    target: str | Path | BinaryIO,
    image: Image.Image,
    recipe: Recipe,
    condition: Image.Image | Inputs | None = None,
    facts: Mapping[str, object] | None = None,
) -> None:
    """Write a PNG that carries its recipe, the pictures it was run with and what was measured on it.

    Args:
        target: file path or binary stream.
        image: the picture.
        recipe: how it was made; kept as a text chunk named `controlnext`, and in the words of other programs as `parameters`.
        condition: the condition picture, or all pictures; each kept as a PNG in a private chunk.
        facts: measured values, such as the adherence; JSON in a text chunk named `controlnext:result`.
    """
    info = PngImagePlugin.PngInfo()
    info.add_itxt(RECIPE_KEY, recipe.to_json(indent=None))
    info.add_text(PARAMETERS_KEY, as_parameters(recipe, __version__))
    if facts:
        info.add_itxt(FACTS_KEY, json.dumps(dict(facts), ensure_ascii=False))
    for name, data in Inputs.of(condition).pack():
        info.add(name, data)
    image.save(target, format="PNG", pnginfo=info)


def read_png(source: str | Path | bytes | BinaryIO) -> Recipe | None:
    """Read the recipe a picture carries, or None when it carries none (or is no PNG at all).

    Raises:
        RecipeError: there is a recipe and it is damaged or from another release.
    """
    text = _png_contents(source)[0].get(RECIPE_KEY)
    return None if text is None else Recipe.from_json(text)


def read_condition(source: str | Path | bytes | BinaryIO) -> Image.Image | None:
    """Read the first condition picture inside a saved result, or None when there is none; as `read_inputs`."""
    return next(map(picture_of, read_inputs(source).conditions), None)


def read_inputs(source: str | Path | bytes | BinaryIO) -> Inputs:
    """Read the pictures that a saved result was run with.

    Raises:
        RecipeError: one is damaged, or is not the one the recipe was run with.
    """
    texts, chunks = _png_contents(source)
    try:
        inputs = Inputs.unpack(chunks)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        raise RecipeError("The condition inside this picture is damaged; give the condition itself.") from None
    recipe = Recipe.from_json(texts[RECIPE_KEY]) if chunks and RECIPE_KEY in texts else None
    if recipe is not None:
        rows = [control.condition_sha256 for control in recipe.all_controls] or [recipe.condition_sha256]
        pairs = [
            *(("condition", digest, picture_of(one)) for digest, one in zip(rows, inputs.conditions, strict=False)),
            ("start picture", recipe.init_sha256, inputs.init_image),
            ("mask", recipe.mask_sha256, inputs.mask),
            ("reference", recipe.reference_sha256, inputs.reference),
        ]
        for what, digest, image in pairs:
            if image is not None and digest not in ("", picture_digest(image)):
                raise RecipeError(
                    f"The {what} inside this picture is not the one that its recipe was run with: it was changed."
                )
    return inputs


def read_facts(source: str | Path | bytes | BinaryIO) -> dict[str, Any]:
    """Read what was measured on a saved result (adherence, seconds); empty when nothing was kept."""
    try:
        facts = json.loads(_png_contents(source)[0].get(FACTS_KEY, "{}"))
    except (ValueError, RecursionError):
        return {}
    return facts if isinstance(facts, dict) else {}


def read_texts(source: str | Path | bytes | BinaryIO) -> dict[str, str]:
    """Read the text chunks of a PNG; empty for any other file."""
    return _png_contents(source)[0]


def _png_contents(source: str | Path | bytes | BinaryIO) -> tuple[dict[str, str], list[tuple[bytes, bytes]]]:
    """Text chunks and private chunks of a PNG, without decoding its pixels; nothing for any other file."""
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            if not isinstance(image, PngImagePlugin.PngImageFile):
                return {}, []
            texts = {key: str(value) for key, value in image.info.items() if isinstance(key, str)}
            return texts, [(chunk[0], chunk[1]) for chunk in image.private_chunks]
    except (OSError, ValueError, SyntaxError, UnidentifiedImageError, Image.DecompressionBombError):
        return {}, []
