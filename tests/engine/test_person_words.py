"""Words and strengths of single people: where they act, and what stays bit for bit."""

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_models import TEXT_WIDTH, make_unet

from annotators.poses.skeleton import draw_skeleton
from controlnext.adherence.person_areas import person_areas
from controlnext.engine.person_words import WordArea, words_by_area
from controlnext.recipes.inputs import Inputs
from controlnext.recipes.person_use import PersonUse, people_of
from controlnext.recipes.png import read_inputs, read_png
from controlnext.recipes.recipe import Recipe, RecipeError


def body(x):
    """A standing person whose neck is at x, in a picture 128 pixels high."""
    joints = np.ones((18, 3))
    joints[:, 0] = x + np.array([0, 0, -8, -12, -14, 8, 12, 14, -5, -6, -6, 5, 6, 6, -2, 2, -4, 4])
    joints[:, 1] = [18, 30, 30, 45, 60, 30, 45, 60, 65, 85, 108, 65, 85, 108, 15, 15, 17, 17]
    return joints


def pair():
    return Image.fromarray(draw_skeleton([body(96), body(32)], 128, 128))


def test_people_have_areas_from_left_to_right_that_do_not_add_up_to_more_than_one():
    left, right = person_areas(np.asarray(pair()))
    assert left[64, 32] == pytest.approx(1)
    assert left[64, 96] < 0.01
    assert right[64, 96] == pytest.approx(1)
    near = person_areas(draw_skeleton([body(60), body(70)], 128, 128))
    assert np.sum(near, axis=0).max() <= 1 + 1e-6
    assert person_areas(np.zeros((64, 64, 3), np.uint8)) == []


def test_words_of_an_area_act_there_and_processors_come_back():
    unet = make_unet()
    torch.manual_seed(0)
    sample, words, other = torch.randn(2, 4, 8, 8), torch.randn(2, 5, TEXT_WIDTH), torch.randn(1, 7, TEXT_WIDTH)
    processors = dict(unet.attn_processors)

    def run(mask=None, text=other, given=words):
        areas = [] if mask is None else [WordArea(np.full((16, 16), mask, np.float32), text)]
        with words_by_area(unet, areas, guided=True), torch.no_grad():
            return unet(sample, 3, encoder_hidden_states=given).sample

    plain = run()
    assert torch.equal(run(0.0), plain)
    assert torch.allclose(run(1.0, words[1:]), plain, atol=1e-5)  # the same words
    everywhere = run(1.0)
    assert torch.equal(everywhere[0], plain[0])  # the unconditional half
    short = torch.cat([words[:1], other[:, :5]])
    assert torch.allclose(run(1.0, other[:, :5])[1], run(given=short)[1], atol=1e-5)
    assert unet.attn_processors == processors


@pytest.fixture
def draw(studio):
    def made(**values):
        recipe = studio.catalogue.resolve(
            "starter", adapter="pose", prompt="x", seed=5, width=128, height=128, num_inference_steps=2, **values
        )
        return studio.generate(recipe, Inputs((pair(),)))

    return made


def test_a_recipe_gives_each_person_words_and_strength(studio, draw):
    plain = np.asarray(draw().images[0])
    assert np.array_equal(draw(people=[{"prompt": ""}, {}]).images[0], plain)
    words, strength = draw(people=[{}, {"prompt": "red"}]), draw(people=[{}, {"gamma": 0.0}])
    assert not np.array_equal(words.images[0], plain)
    assert not np.array_equal(strength.images[0], plain)
    assert not np.array_equal(strength.images[0], words.images[0])
    file = words.files[0]
    again = studio.generate(read_png(file), read_inputs(file))
    assert np.array_equal(again.images[0], words.images[0])
    with pytest.raises(RecipeError, match="3"):
        draw(people=[{"prompt": "x"}] * 3)


def test_strengths_multiply_the_control_around_a_person(draw, studio):
    off = np.asarray(draw(people=[{"gamma": 0.0}, {"gamma": 0.0}]).images[0]).astype(int)
    none = np.asarray(draw(gamma=0.0).images[0]).astype(int)
    plain = np.asarray(draw().images[0]).astype(int)
    assert np.abs(off - none).mean() < np.abs(plain - none).mean()


def test_people_are_lines_and_need_a_pose():
    assert people_of("a knight\n\n1.3: a girl: red\n") == [
        PersonUse(prompt="a knight"), PersonUse(), PersonUse(prompt="a girl: red", gamma=1.3)
    ]  # fmt: skip
    assert [PersonUse.parse(one.line()) for one in people_of("x\n2: y")] == people_of("x\n2: y")
    recipe = Recipe(annotator="pose", people=[{"prompt": "x"}])
    assert Recipe.from_json(recipe.to_json()).people == recipe.people
    assert "people" not in Recipe(annotator="pose").to_json()
    for wrong in ({"annotator": "canny", "people": [{}]}, {"annotator": "pose", "people": [{}] * 9},
                  {"annotator": "pose", "people": [{"gamma": 5}]}, {"annotator": "pose", "people": [{"prompt": "x" * 501}]}):  # fmt: skip
        with pytest.raises(RecipeError):
            Recipe(**wrong)
