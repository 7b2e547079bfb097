from pathlib import Path

import numpy as np
import pytest

import annotators
from controlnext.assets import EXAMPLES
from controlnext.cli.pictures import inputs_of
from controlnext.recipes.recipe import Recipe, RecipeError
from controlnext.studio.conditions import (
    ConditionRequestError,
    chosen_resolution,
    condition_of,
    make_condition,
    map_resolution,
)

PHOTO = EXAMPLES / "arms-out.png"


def pixels(image):
    return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize(
    ("size", "side"), [((256, 256), 256), ((512, 768), 512), ((64, 64), 256), ((2048, 2048), 1024)]
)
def test_a_condition_is_as_dense_as_the_picture_to_be_made(size, side):
    assert map_resolution(*size) == side
    assert chosen_resolution(side, size) is None
    assert chosen_resolution(side + 64, size) == side + 64


@pytest.mark.parametrize("size", [(256, 256), (512, 768)])
@pytest.mark.parametrize("resolution", [None, 320])
def test_page_api_and_command_line_make_the_same_condition(size, resolution):
    recipe = Recipe(annotator="canny", width=size[0], height=size[1], resolution=resolution)
    picture = annotators.load_picture(PHOTO)
    made = condition_of(annotators, picture, recipe.all_controls[0], recipe).annotation.image
    assert min(made.size) == (resolution or map_resolution(*size))
    (from_shell,) = inputs_of(Path(PHOTO), recipe).conditions
    assert np.array_equal(pixels(from_shell.image), pixels(made))
    live = make_condition(annotators, picture, "canny", resolution or map_resolution(*size), {}).annotation.image
    assert np.array_equal(pixels(live), pixels(made))


def test_a_ready_made_map_keeps_its_size():
    picture = annotators.load_picture(PHOTO)
    assert make_condition(annotators, picture, "none", 320).annotation.image.size == picture.size


def test_a_recipe_without_a_chosen_resolution_is_written_as_before():
    plain = Recipe(annotator="canny", controls=[{"annotator": "depth"}])
    assert "resolution" not in plain.to_json()
    kept = Recipe(annotator="canny", resolution=320, controls=[{"annotator": "depth", "resolution": 384}])
    again = Recipe.from_json(kept.to_json())
    assert (again.resolution, again.controls[0].resolution) == (320, 384)
    assert again.all_controls[0].resolution == 320


@pytest.mark.parametrize("resolution", [0, 63, 4096, "wide", 100.5])
def test_a_resolution_out_of_range_is_refused(resolution):
    with pytest.raises(RecipeError, match="2,048"):
        Recipe(annotator="canny", resolution=resolution)


def test_settings_are_pairs():
    with pytest.raises(ConditionRequestError, match="low"):
        make_condition(annotators, annotators.load_picture(PHOTO), "canny", 256, ["low"])
