"""A recipe with the LoRA for few steps."""

from __future__ import annotations

from controlnext.recipes.recipe import Recipe
from controlnext.studio.studio import Studio


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
