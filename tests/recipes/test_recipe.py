import json
import math

import numpy as np
import pytest

from controlnext.errors import ControlNeXtError
from controlnext.recipes.limits import LIMITS
from controlnext.recipes.recipe import PROMPT_LENGTH, LoraUse, Recipe, RecipeError

FULL = {
    "prompt": 'a person 🧍 in a "red" shirt\nat sunset, Grüße',
    "negative_prompt": "blur",
    "seed": 2**40,
    "num_images": 3,
    "width": 320,
    "height": 192,
    "num_inference_steps": 12,
    "guidance_scale": 4.5,
    "gamma": 0.0,
    "alpha": 1.25,
    "control_start": 0.1,
    "control_end": 0.9,
    "scheduler": "unipc",
    "loras": (LoraUse(name="night", weight=-0.5), LoraUse(name="clay")),
    "annotator": "canny",
    "annotator_settings": {"low": 80, "blur": 1.5, "automatic": True, "backend": "auto"},
    "condition_sha256": "ab" * 32,
    "weights": {"base": "cd" * 32},
}


def test_recipe_json_round_trip_keeps_every_value_and_type():
    recipe = Recipe(**FULL)
    again = Recipe.from_json(recipe.to_json())
    assert again == recipe
    assert again.digest() == recipe.digest()
    settings = again.annotator_settings
    assert [type(settings[name]) for name in ("low", "blur", "automatic", "backend")] == [int, float, bool, str]
    assert "🧍" in recipe.to_json()


def test_recipe_is_frozen_and_replace_checks():
    recipe = Recipe(**FULL)
    with pytest.raises(Exception, match="frozen"):
        recipe.seed = 1
    assert recipe.replace(seed=5).seed == 5
    assert recipe.seed == 2**40
    with pytest.raises(RecipeError, match="Guidance"):
        recipe.replace(guidance_scale=0)


def test_recipe_alone_is_one_picture_with_its_own_seed():
    alone = Recipe(**FULL).alone(2)
    assert (alone.seed, alone.num_images, alone.prompt) == (2**40 + 2, 1, FULL["prompt"])


def test_digest_tells_recipes_apart():
    assert Recipe(seed=1).digest() != Recipe(seed=2).digest()
    assert Recipe(seed=1).digest() == Recipe(seed=1).digest()


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        (
            "gamma",
            math.nan,
            "Control strength (gamma) must be a number between 0 and 4, but it is not a number (NaN).",
        ),
        ("gamma", 50, "between 0 and 4, but it is 50."),
        ("gamma", "strong", "but it is 'strong'."),
        ("gamma", True, "but it is True."),
        ("num_inference_steps", 0, "The number of steps must be a whole number between 1 and 150, but it is 0."),
        ("num_inference_steps", 10_000, "but it is 10000."),
        ("num_inference_steps", 2.5, "whole number"),
        ("guidance_scale", math.inf, "Guidance must be"),
        ("seed", -1, "The seed must be"),
        ("seed", 2**63, "The seed must be"),
        ("num_images", 17, "The number of pictures must be a whole number between 1 and 16"),
        ("width", 100, "multiple of 8"),
        ("width", 56, "between 64 and 2,048"),
        ("height", 4096, "between 64 and 2,048"),
        ("prompt", "x" * 10_000, f"The prompt has 10,000 characters; shorten it to at most {PROMPT_LENGTH:,}."),
        ("prompt", "half \ud83e", "lone surrogate"),
        ("prompt", 7, "'prompt'"),
        ("negative_prompt", "x" * 2001, "The negative prompt has 2,001 characters"),
        ("scheduler", "magic", "There is no scheduler 'magic'; choose one of ddim"),
        ("loras", [{"name": "a", "weight": 40}], "The weight of a LoRA must be"),
        ("loras", [{"name": "a"}, {"name": "a"}], "named twice"),
        ("loras", [{"name": str(i)} for i in range(9)], "9 LoRAs are too many"),
        ("annotator_settings", {"low": math.nan}, "not a finite number"),
        ("annotator_settings", {"low": [1]}, "annotator_settings"),
        ("version", 2, "version 2"),
        ("power", 1, "unknown field 'power'"),
        ("control_start", 1.0, "so it would never act"),
    ],
)
def test_recipe_says_what_is_wrong(field, value, says):
    with pytest.raises(RecipeError) as caught:
        Recipe(**{field: value})
    text = str(caught.value)
    assert says in text
    assert "\n" not in text
    assert len(text) < 260
    assert isinstance(caught.value, ControlNeXtError)


def test_a_sampler_with_a_limit_says_how_many_steps_it_takes():
    assert Recipe(scheduler="lcm", num_inference_steps=50).num_inference_steps == 50
    with pytest.raises(RecipeError, match="The sampler lcm takes at most 50 steps, but 51 were asked for"):
        Recipe(scheduler="lcm", num_inference_steps=51)


def test_recipe_survives_a_number_python_cannot_print():
    with pytest.raises(RecipeError, match="too long to show"):
        Recipe(seed=10**5000)


@pytest.mark.parametrize("field", LIMITS)
def test_recipe_takes_both_ends_of_every_range(field):
    limit = LIMITS[field]
    other = {"control_start": 0.0, "control_end": 1.0}
    for value in (limit.minimum, limit.maximum):
        if (field, value) not in {("control_start", 1), ("control_end", 0)}:
            assert getattr(Recipe(**{**other, field: value}), field) == value


def test_recipe_takes_numpy_numbers_and_whole_floats():
    recipe = Recipe(seed=np.int64(5), gamma=np.float32(0.5), num_inference_steps=20.0)
    assert (recipe.seed, recipe.gamma, recipe.num_inference_steps) == (5, 0.5, 20)
    assert type(recipe.num_inference_steps) is int


def test_last_seed_of_a_batch_stays_in_range():
    assert Recipe(seed=2**63 - 4, num_images=4).alone(3).seed == 2**63 - 1
    with pytest.raises(RecipeError, match="no room for 5 pictures"):
        Recipe(seed=2**63 - 4, num_images=5)


@pytest.mark.parametrize(
    "text", ["", "{", "[1]", "null", "[" * 100_000, b"\xff\xfe", '{"seed": "x"}', '{"gamma": NaN}']
)
def test_from_json_of_rubbish_is_a_sentence(text):
    with pytest.raises(RecipeError):
        Recipe.from_json(text)


def test_condition_kind_is_the_adapter_or_the_annotator():
    assert Recipe(annotator="pose").condition_kind == "pose"
    assert Recipe(annotator="none", adapter="depth").condition_kind == "depth"
    assert Recipe(annotator="none").condition_kind == ""


def test_recipe_json_is_plain_json():
    assert json.loads(Recipe(**FULL).to_json())["loras"] == [
        {"name": "night", "weight": -0.5},
        {"name": "clay", "weight": 1.0},
    ]


@pytest.mark.parametrize("value", [True, False, 3, "4"])
def test_an_upscale_is_one_of_three_numbers(value):
    with pytest.raises(RecipeError, match="upscale"):
        Recipe(upscale=value)
