"""A recipe with the LoRA for few steps."""

from __future__ import annotations

import pytest

import annotators
from controlnext.models.defaults import few_steps_notes, for_another_model, own_loras_fit
from controlnext.recipes.inputs import Inputs
from controlnext.recipes.recipe import Recipe, RecipeError
from controlnext.recipes.sweep_plan import SweepAxis, SweepPlan
from controlnext.studio.studio import Studio
from controlnext.studio.sweep import Sweep

FEW = (4, 1.0, "ddim_trailing")
USUAL = (20, 3.0, None)


def sampling(recipe):
    return recipe.num_inference_steps, recipe.guidance_scale, recipe.scheduler


def test_few_steps_are_the_default_where_nothing_is_said_about_sampling(tmp_path):
    resolve = Studio(output_dir=tmp_path).catalogue.resolve
    for kind in ("pose", "canny", "depth", "segmentation"):
        recipe = resolve("starter", kind, prompt="a person", gamma=0.5)
        assert ([use.name for use in recipe.loras], sampling(recipe)) == (["few-steps"], FEW)
        assert few_steps_notes(recipe) == ()


def test_words_alone_have_guided_steps_and_few_ones_are_advised_against(tmp_path):
    resolve = Studio(output_dir=tmp_path).catalogue.resolve
    recipe = resolve("starter", prompt="a person")
    assert (recipe.loras, sampling(recipe), few_steps_notes(recipe)) == ((), USUAL, ())
    assert len(few_steps_notes(resolve("starter", prompt="a person", loras=["few-steps"]))) == 1


@pytest.mark.parametrize(
    "given",
    [
        {"loras": []},
        {"negative_prompt": "rain"},
        {"scheduler": "euler"},
        {"num_inference_steps": 20},
        {"guidance_scale": 3.0},
        {"strength": 0.2},
    ],
)
def test_one_choice_brings_the_guided_steps_back(tmp_path, given):
    recipe = Studio(output_dir=tmp_path).catalogue.resolve("starter", "pose", **given)
    assert recipe.loras == ()
    assert sampling(recipe) == (20, 3.0, given.get("scheduler"))


def test_a_library_without_the_lora_has_the_guided_steps(tmp_path):
    catalogue = Studio(output_dir=tmp_path).catalogue
    catalogue.has_lora = lambda preset, name: False
    assert sampling(catalogue.resolve("starter", "pose")) == USUAL


def test_videos_drawn_frame_by_frame_take_few_steps_too(tmp_path):
    resolve = Studio(output_dir=tmp_path, annotators=annotators).animator.resolve
    recipe = resolve("starter")
    assert ([use.name for use in recipe.loras], sampling(recipe)) == (["few-steps"], FEW)
    assert sampling(recipe.picture("")) == FEW
    assert recipe.picture("").loras == recipe.loras
    assert sampling(resolve("starter", loras=[])) == USUAL
    assert "loras" not in resolve("starter-video").model_dump()
    with pytest.raises(RecipeError, match="takes no LoRAs"):
        resolve("starter-video", loras=["few-steps"])


def test_a_recipe_with_the_lora_for_few_steps_takes_few_steps(tmp_path):
    resolve = Studio(output_dir=tmp_path).catalogue.resolve
    few = resolve("starter", "pose", loras=["few-steps"])
    assert (few.num_inference_steps, few.guidance_scale, few.scheduler) == (4, 1.0, "ddim_trailing")
    mine = resolve("starter", "pose", loras=["few-steps"], num_inference_steps=2, guidance_scale=2)
    assert (mine.num_inference_steps, mine.guidance_scale, mine.scheduler) == (2, 2, "ddim_trailing")
    plain = resolve("starter", "pose", loras=["clay"])
    assert (plain.num_inference_steps, plain.guidance_scale, plain.scheduler) == (20, 3.0, None)
    old = Recipe(model="starter", annotator="pose", num_inference_steps=20)
    assert resolve(**old.model_dump(exclude={"version"})).num_inference_steps == 20


def test_steps_that_it_was_not_made_for_are_advised_against(tmp_path):
    resolve = Studio(output_dir=tmp_path).catalogue.resolve
    for values in ({"num_inference_steps": 20}, {"guidance_scale": 3.0}):
        assert len(few_steps_notes(resolve("starter", "pose", loras=["few-steps"], **values))) == 1


def test_another_model_gets_its_own_sampling_and_keeps_the_other_loras(tmp_path):
    resolve = Studio(output_dir=tmp_path).catalogue.resolve
    few = resolve("starter", "pose", prompt="x", loras=["few-steps", "clay"]).model_dump()
    values = for_another_model(few)
    assert [use.name for use in values["loras"]] == ["clay"]
    assert not values.keys() & {"num_inference_steps", "guidance_scale", "scheduler"}
    assert values["prompt"] == "x"
    assert for_another_model(few, keep=["guidance_scale"])["guidance_scale"] == 1.0
    guided = resolve("starter", "pose", loras=["clay"]).model_dump()
    assert for_another_model(guided) == guided


def test_a_sweep_of_models_or_steps_is_none_of_few_steps(tmp_path):
    studio = Studio(output_dir=tmp_path)
    recipe = studio.catalogue.resolve("starter", "pose", seed=1)
    plan = SweepPlan(recipe, (SweepAxis("model", ("starter", "sd15")),))
    first, second = Sweep.open(plan, Inputs(), tmp_path, studio.catalogue).cells
    assert [use.name for use in first.recipe.loras] == ["few-steps"]
    assert (second.problem, second.recipe.loras) == ("", ())
    assert second.recipe.num_inference_steps > 4
    assert own_loras_fit(["gamma", "model"])
    assert not own_loras_fit(["gamma", "num_inference_steps"])
