import json

import pytest
from PIL import Image, PngImagePlugin

from controlnext.recipes.foreign import read_foreign
from controlnext.recipes.parameters import as_parameters
from controlnext.recipes.png import read_png, read_texts, write_png
from controlnext.recipes.recipe import ControlUse, LoraUse, Recipe


def png(path, **texts):
    info = PngImagePlugin.PngInfo()
    for key, text in texts.items():
        info.add_text(key, text if isinstance(text, str) else json.dumps(text))
    Image.new("RGB", (8, 8)).save(path, pnginfo=info)
    return path


A1111 = """a (red:1.2) fox, <lora:ink:0.8>
second line
Negative prompt: blur, low
Steps: 28, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 6.5, Seed: 1234567890, Size: 512x768, Model hash: abc, \
Model: dream, Clip skip: 2, Lora hashes: "ink: 1a2b, clay: 3c", Version: v1.10.1"""
COMFY = {
    "3": {"class_type": "KSampler", "inputs": {
        "seed": 77, "steps": 25, "cfg": 7.5, "sampler_name": "euler_ancestral", "scheduler": "normal", "denoise": 1.0,
        "model": ["10", 0], "positive": ["20", 0], "negative": ["7", 0], "latent_image": ["5", 0]}},
    "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "x.safetensors"}},
    "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 640, "height": 512, "batch_size": 1}},
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": ["30", 0], "clip": ["10", 1]}},
    "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "blur", "clip": ["10", 1]}},
    "10": {"class_type": "LoraLoader", "inputs": {"lora_name": "deep/ink.safetensors", "strength_model": 0.6, "model": ["4", 0], "clip": ["4", 1]}},
    "20": {"class_type": "ControlNetApply", "inputs": {"conditioning": ["6", 0], "control_net": ["21", 0], "image": ["20", 0]}},
    "21": {"class_type": "ControlNetLoader", "inputs": {"control_net_name": "pose"}},
    "30": {"class_type": "PrimitiveString", "inputs": {"value": "a fox"}},
}  # fmt: skip
INVOKE = {
    "positive_prompt": "a fox", "negative_prompt": "blur", "seed": 5, "width": 512, "height": 768, "steps": 30, "cfg_scale": 7.5,
    "scheduler": "dpmpp_2m_k", "model": {"name": "Dream", "base": "sd-1"}, "clip_skip": 1,
    "loras": [{"model": {"name": "ink"}, "weight": 0.5}],
}  # fmt: skip
FOOOCUS = {
    "prompt": "a fox", "negative_prompt": "", "seed": "99", "steps": 30, "guidance_scale": 4.0, "resolution": "(896, 1152)",
    "sampler": "dpmpp_2m_sde_gpu", "scheduler": "karras", "base_model": "jugger", "loras": [["ink", 0.1, "ab12"]],
    "styles": "['Fooocus V2']", "version": "Fooocus v2.5", "full_prompt": ["a fox"],
}  # fmt: skip
SWARM = {"sui_image_params": {
    "prompt": "a fox", "negativeprompt": "blur", "seed": 3, "steps": 20, "cfgscale": 7, "width": 1024, "height": 1024,
    "sampler": "uni_pc", "scheduler": "karras", "model": "dream", "loras": ["ink", "clay"], "loraweights": ["0.5", "1"],
    "swarm_version": "0.9"}}  # fmt: skip

CASES = {
    "a1111": ({"parameters": A1111}, {
        "prompt": "a (red:1.2) fox, <lora:ink:0.8>\nsecond line", "negative_prompt": "blur, low", "seed": 1234567890,
        "num_inference_steps": 28, "guidance_scale": 6.5, "width": 512, "height": 768, "scheduler": "dpmpp_karras",
    }, ["Model 'dream'", "Clip skip '2'", "Lora hashes"]),
    "comfy": ({"prompt": COMFY}, {
        "prompt": "a fox <lora:ink:0.6>", "negative_prompt": "blur", "seed": 77, "num_inference_steps": 25, "guidance_scale": 7.5,
        "width": 640, "height": 512, "scheduler": "euler_a",
    }, ["CheckpointLoaderSimple", "ControlNetApply"]),
    "invoke": ({"invokeai_metadata": INVOKE}, {
        "prompt": "a fox <lora:ink:0.5>", "negative_prompt": "blur", "seed": 5, "num_inference_steps": 30, "guidance_scale": 7.5,
        "width": 512, "height": 768, "scheduler": "dpmpp_karras",
    }, ["model 'Dream'", "clip_skip 1"]),
    "fooocus": ({"parameters": FOOOCUS}, {
        "prompt": "a fox <lora:ink:0.1>", "seed": 99, "num_inference_steps": 30, "guidance_scale": 4.0, "width": 896, "height": 1152,
    }, ["dpmpp_2m_sde_gpu", "base_model 'jugger'", "styles"]),
    "swarm": ({"parameters": SWARM}, {
        "prompt": "a fox <lora:ink:0.5> <lora:clay:1>", "negative_prompt": "blur", "seed": 3, "num_inference_steps": 20,
        "guidance_scale": 7.0, "width": 1024, "height": 1024, "scheduler": "unipc",
    }, ["schedule 'karras'", "model 'dream'"]),
    "old invoke": ({"sd-metadata": {"model": "sd", "image": {"prompt": [{"prompt": "a fox [blur]"}], "steps": 9, "cfg_scale": 7, "seed": 1,
        "width": 512, "height": 512, "sampler": "ddim"}}}, {
        "prompt": "a fox", "negative_prompt": "blur", "seed": 1, "num_inference_steps": 9, "guidance_scale": 7.0, "width": 512,
        "height": 512, "scheduler": "ddim",
    }, ["model 'sd'"]),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_what_maps_is_taken_and_the_rest_is_named(tmp_path, name):
    texts, values, left = CASES[name]
    found = read_foreign(png(tmp_path / "x.png", **texts))
    assert found.values == values
    Recipe(**found.values)
    for words in left:
        assert words in found.sentence(), found.sentence()
    assert "left out" in found.sentence().lower()


@pytest.mark.parametrize(
    "texts",
    [
        {},
        {"parameters": "just a text"},
        {"parameters": "{"},
        {"parameters": "[1]"},
        {"parameters": {"sui_image_params": 3}},
        {"prompt": {"1": {"inputs": {"positive": ["1", 0], "negative": ["1", 0], "steps": {}}}}},
        {"prompt": "[" * 100_000},
        {"prompt": {"1": 5}},
        {"invokeai_metadata": "null"},
        {"sd-metadata": {"image": 4}},
        {"parameters": "x\nSteps: many, CFG scale: nan, Seed: -5, Size: 1x1"},
    ],
)
def test_texts_that_say_nothing_are_nothing(tmp_path, texts):
    found = read_foreign(png(tmp_path / "x.png", **texts))
    assert found is None or set(found.values) == {"prompt"}
    Image.new("RGB", (8, 8)).save(tmp_path / "x.jpg")
    assert read_foreign(tmp_path / "x.jpg") is None


def test_numbers_out_of_range_are_left_out(tmp_path):
    text = "a\nSteps: 999, Sampler: PLMS, CFG scale: 7, Seed: 1, Size: 513x512"
    found = read_foreign(png(tmp_path / "x.png", parameters=text))
    assert found.values == {"prompt": "a", "guidance_scale": 7.0, "seed": 1}
    for words in ("999", "513", "PLMS"):
        assert words in found.sentence()


def test_our_pictures_say_their_settings_to_other_programs(tmp_path):
    recipe = Recipe(
        prompt="a fox, red", negative_prompt="blur", seed=7, scheduler="dpmpp_karras", annotator="pose", strength=0.5,
        loras=[LoraUse(name="ink", weight=0.8)], controls=[ControlUse(annotator="depth", gamma=0.5)], width=512, height=256,
    )  # fmt: skip
    path = tmp_path / "x.png"
    write_png(path, Image.new("RGB", (8, 8)), recipe)
    assert read_png(path) == recipe
    text = read_texts(path)["parameters"]
    assert text.startswith(
        "a fox, red <lora:ink:0.8>\nNegative prompt: blur\nSteps: 20, Sampler: DPM++ 2M Karras, CFG scale: 3, Seed: 7, Size: 512x256"
    )
    found = read_foreign(path)
    assert {key: found.values[key] for key in ("negative_prompt", "seed", "scheduler", "width", "height")} == {
        "negative_prompt": "blur", "seed": 7, "scheduler": "dpmpp_karras", "width": 512, "height": 256,
    }  # fmt: skip
    assert "ControlNeXt depth" in found.sentence()
    assert "Sampler" not in as_parameters(recipe.replace(scheduler=None), "0")


def test_commands_take_the_settings_of_other_programs(tmp_path):
    import argparse

    from controlnext.cli import batch, generate
    from controlnext.studio.studio import Studio

    picture = png(
        tmp_path / "x.png", parameters="a fox\nSteps: 9, Sampler: Euler, CFG scale: 6, Seed: 9, Size: 256x256"
    )
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers()
    generate.add_parser(commands)
    batch.add_parser(commands)
    options = parser.parse_args(["generate", "--recipe", str(picture), "--num-inference-steps", "4"])
    recipe, inputs = generate.recipe_of(options, Studio(output_dir=tmp_path))
    assert (recipe.prompt, recipe.num_inference_steps, recipe.seed, recipe.scheduler) == ("a fox", 4, 9, "euler")
    assert inputs.conditions == ()
    options = parser.parse_args(["batch", str(tmp_path), "--recipe", str(picture), "--annotator", "canny"])
    values = batch._common(options)
    assert (values["prompt"], values["num_inference_steps"], values["annotator"]) == ("a fox", 9, "canny")
    assert "seed" not in values
