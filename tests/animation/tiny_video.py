"""A tiny random video model, saved in the layout of the released ones beside the tiny image model."""

from diffusers import StableVideoDiffusionPipeline
from tiny_models import CHANNELS, make_module, svd_components

from controlnext import ControlNeXtAdapter

PRESET = """
title: Tiny video {variant}
description: Random weights.
variant: {variant}
base: {{path: video, licence: none}}
sizes: {{width: 64, height: 64, minimum: 64, maximum: 128, choices: {{"1:1": [64, 64], "3:4": [72, 96]}}}}
defaults: {{num_inference_steps: 2, guidance_scale: 1.5}}
adapters: {{pose: {{path: {variant}, drawing: {drawing}}}}}
adherence_backend: starter
batch: 1
precision: float32
"""


def save_video(folder, variants=("svd-v2", "starter-video")):
    """Write a base and a preset for each variant; the file of `starter-video` is called as the project's own."""
    StableVideoDiffusionPipeline(**svd_components()).save_pretrained(folder / "video")
    for variant in variants:
        adapter = ControlNeXtAdapter(make_module(variant, CHANNELS[variant]), variant=variant)
        adapter.save_pretrained(folder / variant)
        drawing = "svd" if variant.startswith("svd") else "classic"
        (folder / f"{variant}.yaml").write_text(PRESET.format(variant=variant, drawing=drawing))
    return folder
