"""Sizes by shape."""

from __future__ import annotations

import pytest

from controlnext.studio.conditions import map_resolution
from controlnext.ui.sizes import NEAREST, PICTURE, STEP, picture_size_choices, size_choices, size_of

SMALL = {
    "width": 256,
    "height": 256,
    "minimum": 128,
    "maximum": 512,
    "choices": {"1:1": [256, 256], "3:4": [192, 256]},
}
LARGE = {"width": 1024, "height": 1024, "minimum": 512, "maximum": 2048, "choices": {}}


def test_size_choices_are_the_models_own_first_and_each_once():
    assert size_choices(SMALL) == [
        ("256 × 256  (1:1)", "256x256"), ("192 × 256  (3:4)", "192x256"), ("As the picture", PICTURE)
    ]  # fmt: skip


def test_size_choices_are_common_shapes_where_the_model_names_none():
    values = [value for _, value in size_choices(LARGE)]
    assert values == ["1024x1024", "1184x896", "896x1184", "1376x768", "768x1376", PICTURE]


@pytest.mark.parametrize("picture", [(300, 400), (1000, 1000), (1920, 1080), (700, 400)])
@pytest.mark.parametrize("sizes", [SMALL, LARGE])
def test_size_of_the_picture_keeps_its_shape_and_the_models_pixels(picture, sizes):
    width, height = size_of(PICTURE, sizes, picture)
    assert width % STEP == 0
    assert height % STEP == 0
    assert width / height == pytest.approx(picture[0] / picture[1], rel=0.15)
    assert width * height == pytest.approx(sizes["width"] * sizes["height"], rel=0.2)


def test_size_of_a_very_long_picture_stays_what_the_model_can_draw():
    width, height = size_of(PICTURE, SMALL, (4000, 400))
    assert width / height <= 2.3
    assert 128 <= height <= width <= 512


def test_size_without_a_picture_is_the_models_own():
    assert size_of(PICTURE, SMALL, None) == (256, 256)


def test_size_from_a_recipe_is_taken_as_it_is():
    assert size_of("200x328", SMALL, None) == (200, 328)


def test_map_resolution_follows_the_pictures_within_limits():
    assert [map_resolution(*size) for size in ((256, 256), (1024, 768), (128, 256), (2048, 2048))] == [
        256,
        768,
        256,
        1024,
    ]


@pytest.mark.parametrize(
    ("picture", "wanted"),
    [((4000, 3000), (1184, 896)), ((1920, 1080), (1376, 768)), ((900, 1000), (1024, 1024)), ((300, 400), (896, 1184)),
     ((50, 900), (768, 1376)), (None, (1024, 1024))],
)  # fmt: skip
def test_the_nearest_size_pads_the_least(picture, wanted):
    assert size_of(NEAREST, LARGE, picture) == wanted


def test_the_nearest_size_is_the_first_choice():
    assert picture_size_choices(SMALL)[0][1] == NEAREST
    assert picture_size_choices(SMALL)[1:] == size_choices(SMALL)
