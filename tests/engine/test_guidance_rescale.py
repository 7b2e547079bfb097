"""A preset's guidance rescale reaches diffusers where it takes one, and nowhere else."""

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError

from controlnext.assets import PRESETS
from controlnext.device import Device
from controlnext.engine.engine import Engine
from controlnext.method.control_cache import ControlCache
from controlnext.models.presets import load_preset
from controlnext.recipes.inputs import Inputs
from controlnext.recipes.recipe import Recipe

RECIPE = Recipe(prompt="a person in a red shirt", num_inference_steps=3, guidance_scale=6.0, width=128, height=128)


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine.load(load_preset(PRESETS / "starter.yaml"), Device("cpu", torch.float32), ControlCache())


def draw(engine, monkeypatch, rescale, recipe=RECIPE, inputs=None):
    monkeypatch.setattr(engine, "preset", engine.preset.model_copy(update={"guidance_rescale": rescale}))
    engine.prepare(recipe, [])
    return np.asarray(engine.run(recipe, [5], inputs or Inputs(), None)[0])


def test_a_picture_is_what_diffusers_draws_with_it(engine, monkeypatch):
    plain, rescaled = (draw(engine, monkeypatch, value) for value in (0.0, 0.7))
    own = engine.pipeline(
        RECIPE.prompt,
        negative_prompt=RECIPE.negative_prompt,
        num_inference_steps=3,
        guidance_scale=6.0,
        guidance_rescale=0.7,
        width=128,
        height=128,
        generator=torch.Generator().manual_seed(5),
    ).images[0]
    assert np.abs(rescaled.astype(int) - np.asarray(own)).max() <= 1
    assert np.abs(rescaled.astype(int) - plain).mean() > 1


def test_without_guidance_it_changes_nothing(engine, monkeypatch):
    recipe = RECIPE.replace(guidance_scale=1.0)
    first, second = (draw(engine, monkeypatch, value, recipe) for value in (0.0, 0.7))
    np.testing.assert_array_equal(first, second)


def test_start_pictures_are_drawn_without_it(engine, monkeypatch):
    recipe = RECIPE.replace(strength=0.8)
    inputs = Inputs(init_image=Image.new("RGB", (128, 128), "grey"))
    first, second = (draw(engine, monkeypatch, value, recipe, inputs) for value in (0.0, 0.7))
    np.testing.assert_array_equal(first, second)


def test_a_preset_keeps_it_between_0_and_1():
    preset = load_preset(PRESETS / "people.yaml")
    assert 0 < preset.guidance_rescale <= 1
    with pytest.raises(ValidationError):
        type(preset).model_validate(preset.model_dump() | {"guidance_rescale": 1.5})
