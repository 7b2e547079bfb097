"""A recipe as the text that AUTOMATIC1111's web UI puts into its pictures, which many other programs read."""

from __future__ import annotations

import json

from controlnext.recipes.recipe import Recipe

PARAMETERS_KEY = "parameters"
"""Name of the text chunk."""
NEGATIVE = "Negative prompt:"
_A1111_NAMES = {
    "ddim": "DDIM", "ddim_trailing": "DDIM trailing", "unipc": "UniPC", "dpmpp": "DPM++ 2M", "dpmpp_karras": "DPM++ 2M Karras", "euler": "Euler",
    "euler_a": "Euler a", "lcm": "LCM",
}  # fmt: skip


def as_parameters(recipe: Recipe, version: str) -> str:
    """Write a recipe as AUTOMATIC1111's web UI does, for programs that read its `parameters`.

    Args:
        recipe: of one picture.
        version: of this program.
    """
    tags = "".join(f" <lora:{use.name}:{use.weight:g}>" for use in recipe.loras)
    lines = [f"{recipe.prompt}{tags}".strip()]
    if recipe.negative_prompt:
        lines.append(f"{NEGATIVE} {recipe.negative_prompt}")
    pairs: dict[str, object] = {"Steps": recipe.num_inference_steps}
    if recipe.scheduler is not None:
        pairs["Sampler"] = _A1111_NAMES[recipe.scheduler]
    pairs |= {
        "CFG scale": f"{recipe.guidance_scale:g}",
        "Seed": recipe.seed,
        "Size": f"{recipe.width}x{recipe.height}",
        "Model": recipe.model,
    }
    if recipe.strength is not None:
        pairs["Denoising strength"] = f"{recipe.strength:g}"
    for control in recipe.all_controls:
        pairs[f"ControlNeXt {control.condition_kind}"] = f"{control.gamma:g}"
    pairs["Version"] = f"ControlNeXt Studio {version}"
    quoted = (
        f"{key}: {json.dumps(value) if any(mark in str(value) for mark in ',:') else value}"
        for key, value in pairs.items()
    )
    return "\n".join([*lines, ", ".join(quoted)])
