"""The figure of a photograph, drawn by the starter in its own pose."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

import annotators
from controlnext.models.catalogue import Catalogue
from controlnext.studio.character import PICTURES, character_order, in_the_right_colours

WORDS = "a person with brown hair in a red shirt and blue trousers on sand"
EXAMPLE = Path(__file__).parents[2] / "assets" / "examples" / "arms-out.png"


@pytest.mark.parametrize(
    ("seen", "adherence", "best"),
    [
        (["a person with black hair in a red shirt and blue trousers", WORDS], [0.9, 0.1], 1),
        ([WORDS, WORDS], [0.4, 0.5], 1),
        ([WORDS, "a person with brown hair and a blue hat in a red shirt and blue trousers"], [0.1, 0.9], 0),
        (["a person", WORDS], [None, None], 1),
    ],
)
def test_colours_count_first_and_adherence_decides_between_equal_ones(seen, adherence, best):
    result = SimpleNamespace(images=seen, adherence=adherence)
    assert in_the_right_colours(result, WORDS, SimpleNamespace(describe_figure=lambda image: image)) == best


def test_the_order_is_the_photographs_pose_and_the_words():
    photograph = Image.open(EXAMPLE).convert("RGB").resize((192, 256))
    recipe, inputs = character_order(
        Catalogue(), annotators, photograph, WORDS, size=(192, 256), model="starter", seed=3
    )
    assert (recipe.prompt, recipe.seed, recipe.num_images) == (WORDS, 3, PICTURES)
    assert (recipe.condition_kind, recipe.width, recipe.height) == ("pose", 192, 256)
    assert inputs.conditions[0].data["people"]
