"""Sentences about controls that do nothing."""

import pytest
from PIL import Image

from controlnext.adherence.measure import Asked
from controlnext.adherence.no_effect import no_effect
from controlnext.recipes.recipe import ControlUse, Recipe

BLANK = Asked(Image.new("RGB", (64, 64)))
DRAWN = Asked(Image.linear_gradient("L").convert("RGB"))


@pytest.mark.parametrize(
    ("values", "condition", "word"),
    [
        ({}, DRAWN, ""),
        ({}, BLANK, "blank"),
        ({}, Asked(Image.new("RGB", (64, 64), "red")), "blank"),
        ({"gamma": 0}, DRAWN, "gamma"),
        ({"gamma_curve": "0:0, 1:0"}, DRAWN, "gamma"),
        ({"gamma_curve": "0:0, 1:0.5"}, DRAWN, ""),
        ({"control_start": 0.3, "control_end": 0.34}, DRAWN, "window"),
        ({"control_start": 0.3, "control_end": 0.6}, DRAWN, ""),
        ({"control_start": 0.3, "control_end": 0.6, "num_inference_steps": 2}, DRAWN, "window"),
        ({"num_inference_steps": 1, "control_end": 0.9}, DRAWN, "window"),
    ],
)
def test_the_likely_cause_is_named(values, condition, word):
    said = no_effect(Recipe(annotator="pose", **values), [condition])
    assert len(said) == bool(word)
    assert not word or ("Pose" in said[0] and word in said[0])


def test_each_control_is_looked_at_and_words_alone_need_none():
    recipe = Recipe(annotator="pose", controls=[ControlUse(annotator="depth", gamma=0.0)])
    assert [sentence.split()[0] for sentence in no_effect(recipe, [BLANK, DRAWN])] == ["Pose", "Depth"]
    assert no_effect(Recipe(), []) == ()
