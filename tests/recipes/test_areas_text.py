"""Areas of controls as recipes have them."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from controlnext.recipes.areas import AREA_SIDE, area_cut, area_picture, area_text
from controlnext.recipes.controls import ControlUse, RecipeError
from controlnext.recipes.recipe import Recipe
from controlnext.recipes.video_recipe import VideoRecipe


def half(size=(64, 64)):
    mask = Image.new("L", size)
    mask.paste(255, (0, 0, size[0] // 2, size[1]))
    return mask


def test_an_area_is_what_was_painted_and_white_is_none():
    assert np.array_equal(area_picture(area_text(half(), (64, 64))), half())
    assert area_text(Image.new("L", (64, 64), 255), (512, 768)) == ""
    assert area_text(Image.new("L", (64, 64)), (64, 64), outside=True) == ""
    outside = np.asarray(area_picture(area_text(half(), (64, 64), outside=True)))
    assert np.array_equal(outside, 255 - np.asarray(half()))
    large = area_picture(area_text(half((2048, 1024)), (2048, 1024), soft=16))
    assert large.size == (AREA_SIDE, AREA_SIDE // 2)
    assert 100 < large.getpixel((63, 30)) < 255


def test_an_area_is_fitted_as_its_condition_is():
    mask = np.asarray(area_picture(area_text(half((32, 64)), (64, 64))))  # in the middle, its edges continued
    assert mask[:, :31].min() == 255
    assert mask[:, 33:].max() == 0


def test_a_cut_of_an_area():
    text = area_text(half(), (64, 64))
    assert area_cut(text, (0, 0, 16, 16), (64, 64)) == area_cut("", (0, 0, 16, 16), (64, 64)) == ""
    assert np.asarray(area_picture(area_cut(text, (40, 0, 56, 16), (64, 64)))).max() == 0
    assert np.asarray(area_picture(area_cut(text, (24, 0, 40, 16), (64, 64))))[:, :28].min() > 240


def test_recipes_carry_areas_and_others_stay_as_they_were():
    text = area_text(half(), (64, 64))
    recipe = Recipe(annotator="pose", area=text, controls=[{"annotator": "depth", "area": text}])
    assert Recipe.from_json(recipe.to_json()) == recipe
    assert [control.area for control in recipe.all_controls] == [text, text]
    assert "area" not in Recipe(annotator="pose", controls=[{"annotator": "depth"}]).to_json()
    video = VideoRecipe(area=text)
    assert VideoRecipe.from_json(video.to_json()).all_controls[0].area == text
    assert video.picture("x").area == text
    assert "area" not in VideoRecipe().to_json()


def encoded(image, kind="PNG"):
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return base64.b64encode(buffer.getvalue()).decode()


@pytest.mark.parametrize(
    "text",
    ["x", "é", "A" * 100_000, encoded(Image.new("L", (129, 4))), encoded(Image.new("RGB", (4, 4))), encoded(half(), "JPEG"),
     encoded(half())[:40]],
)  # fmt: skip
def test_an_area_that_is_none_is_refused(text):
    with pytest.raises(RecipeError, match=str(AREA_SIDE)):
        ControlUse(annotator="pose", area=text)
