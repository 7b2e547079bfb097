"""What a live picture is made by."""

import pytest

from controlnext.device import bfloat16_is_faster
from controlnext.engine.live import live_recipe
from controlnext.recipes.recipe import Recipe

RECIPE = Recipe(num_images=3, num_inference_steps=20, guidance_scale=5.0, scheduler="unipc", seed=9)


def rows(*names, usable=True):
    return [{"name": name, "usable": usable} for name in names]


def test_a_model_of_few_steps_needs_no_guidance():
    live, lora = live_recipe(RECIPE, 4, rows("lcm-lora"))
    assert (live.num_images, live.num_inference_steps, live.guidance_scale, live.scheduler) == (1, 4, 1.0, None)
    assert (live.seed, live.loras, lora) == (9, (), "")


@pytest.mark.parametrize(
    ("name", "scheduler"),
    [("lcm-lora-sdv1-5", "lcm"), ("sdxl_lightning_4step_lora", "euler"), ("Hyper-SD15", "euler")],
)
def test_a_lora_for_few_steps_is_taken_where_there_is_one(name, scheduler):
    live, lora = live_recipe(RECIPE, None, rows("ink", name))
    assert (lora, live.scheduler, live.num_inference_steps, live.guidance_scale) == (name, scheduler, 4, 1.0)
    assert [use.name for use in live.loras] == [name]
    again, _ = live_recipe(live, None, rows("ink", name))
    assert again.loras == live.loras


def test_the_lora_of_this_project_is_taken_with_its_sampler_even_where_the_model_has_steps_of_its_own():
    live, lora = live_recipe(RECIPE, 3, rows("ink", "lcm-lora", "few-steps"))
    made_by = (lora, live.scheduler, live.num_inference_steps, live.guidance_scale)
    assert made_by == ("few-steps", "ddim_trailing", 4, 1.0)
    assert [use.name for use in live.loras] == ["few-steps"]
    controlled, _ = live_recipe(RECIPE.replace(adapter="pose"), 3, rows("few-steps"))
    assert controlled.num_inference_steps == 2


def test_without_one_the_guidance_stays():
    for given in (rows("turbocharged_ink2"), rows("lcm", usable=False), []):
        live, lora = live_recipe(RECIPE, None, given)
        assert (lora, live.loras, live.num_inference_steps, live.guidance_scale) == ("", (), 8, 5.0)


def test_a_start_picture_leaves_steps_to_run():
    live, _ = live_recipe(RECIPE.replace(strength=0.1), 4, [])
    assert live.steps_to_run == 4


def test_the_precision_is_measured_once():
    first = bfloat16_is_faster()
    assert bfloat16_is_faster() is first
    assert bfloat16_is_faster.cache_info().misses == 1
