"""Base models from folders and from single files, in the real layouts, without a network."""

import json
import threading

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from ldm_layout import checkpoint
from PIL import Image
from released import KINDS, deep_components, save_base
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from controlnext.assets import CONFIGS
from controlnext.device import Device
from controlnext.engine.engine import Engine, EngineError
from controlnext.engine.loading import clip_tokenizer
from controlnext.method.original_names import diffusers_names
from controlnext.models.presets import load_preset
from controlnext.progress import Cancelled
from controlnext.studio.studio import Studio

PRESET = """
title: Mine
variant: {family}
base: {{path: {path}, licence: none, config: {config}}}
sizes: {{width: 64, height: 64, minimum: 64, maximum: 128}}
"""


def write_preset(folder, family, path, config="null"):
    (folder / "mine.yaml").write_text(PRESET.format(family=family, path=path, config=config))
    return load_preset(folder / "mine.yaml")


def picture_of(folder):
    studio = Studio(output_dir=folder / "out", presets_dir=folder, device="cpu", threads=1)
    assert studio.catalogue.models()[0]["state"] == "ready", studio.catalogue.models()[0]["reason"]
    recipe = studio.catalogue.resolve("mine", prompt="a cat", seed=1, num_inference_steps=2)
    return np.asarray(studio.generate(recipe, None).images[0]), studio


@pytest.mark.parametrize("family", ["sd15", "sdxl"])
def test_a_single_file_gives_the_same_picture_as_its_folder(tmp_path, family):
    components = deep_components(family)
    folder = tmp_path / "folder"
    KINDS[family](**components).save_pretrained(folder)
    config = json.loads((folder / "unet" / "config.json").read_text())
    assert config["layers_per_block"] == 2
    tensors = checkpoint(components)
    unet = {key: value for key, value in tensors.items() if key.startswith("model.diffusion_model.")}
    assert diffusers_names(unet).keys() == components["unet"].state_dict().keys()
    save_file(tensors, tmp_path / "one.safetensors")
    write_preset(tmp_path, family, "folder")
    whole, _ = picture_of(tmp_path)
    for weights in folder.rglob("*.safetensors"):
        weights.unlink()  # what is left is the configuration
    write_preset(tmp_path, family, "one.safetensors", "folder")
    single, studio = picture_of(tmp_path)
    assert np.array_equal(single, whole)
    assert studio._engine.hashes(studio.catalogue.resolve("mine", seed=1), [])["base"]


@pytest.mark.parametrize(("family", "count"), [("sd15", 859_520_964), ("sdxl", 2_567_463_684)])
def test_bundled_configurations_are_those_of_the_released_models(family, count):
    """Parameter counts of the released UNets; the key names that checkpoints of the family have."""

    def config(name):
        return json.loads((CONFIGS / family / name / "config.json").read_text())

    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(config("unet"))
        assert sum(parameter.numel() for parameter in unet.parameters()) == count
        vae = AutoencoderKL.from_config(config("vae"))
        assert sum(parameter.numel() for parameter in vae.parameters()) == 83_653_863
        text = CLIPTextModel(CLIPTextConfig.from_dict(config("text_encoder")))
        assert sum(parameter.numel() for parameter in text.parameters()) == 123_060_480
        if family == "sdxl":
            second = CLIPTextModelWithProjection(CLIPTextConfig.from_dict(config("text_encoder_2")))
            assert sum(parameter.numel() for parameter in second.parameters()) == 694_659_840


def test_the_bundled_tokenizer_is_clips():
    tokenizer = clip_tokenizer()
    assert len(tokenizer) == 49_408
    ids = tokenizer("a photo of a Cat, naïve 東京!")["input_ids"]  # as open_clip's tokenizer gives them
    assert ids == [49406, 320, 1125, 539, 320, 2368, 267, 1097, 35689, 563, 48338, 21078, 361, 256, 49407]
    assert tokenizer.model_max_length == 77
    padded = clip_tokenizer("!")("a", padding="max_length")["input_ids"]
    assert padded == [49406, 320, 49407] + [0] * 74


def test_a_folder_in_float16_files_loads_them_and_stops_between_parts(tmp_path):
    save_base(tmp_path / "base", "sd15")
    preset = write_preset(tmp_path, "sd15", "base")
    asked, cancel = [], threading.Event()

    def stop():
        asked.append(1)
        if len(asked) == 3:
            cancel.set()
            raise Cancelled("Stopped before a picture was finished.")

    with pytest.raises(Cancelled):
        Engine.load(preset, Device("cpu", torch.float32), None, stop)
    assert len(asked) == 3
    engine = Engine.load(preset, Device("cpu", torch.float32), None)
    assert engine.pipeline.unet.dtype == torch.float32
    assert engine.pipeline.safety_checker is None


def test_the_float16_autoencoder_is_taken_in_float16_alone(tmp_path):
    save_base(tmp_path / "base", "sdxl")
    AutoencoderKL.from_pretrained(tmp_path / "base" / "vae", variant="fp16").save_pretrained(tmp_path / "fixed")
    tensors = AutoencoderKL.from_pretrained(tmp_path / "fixed").state_dict()
    save_file(
        {key: value + 1 for key, value in tensors.items()}, tmp_path / "fixed" / "diffusion_pytorch_model.safetensors"
    )
    preset = write_preset(tmp_path, "sdxl", "base")
    (tmp_path / "mine.yaml").write_text((tmp_path / "mine.yaml").read_text() + "vae: {path: fixed}\n")
    preset = load_preset(tmp_path / "mine.yaml")
    key = "decoder.conv_in.bias"
    own = Engine.load(preset, Device("cpu", torch.float32), None).pipeline.vae.state_dict()[key]
    half = Engine.load(preset, Device("cpu", torch.float16), None).pipeline.vae.state_dict()[key]
    assert half.dtype == torch.float16
    assert torch.allclose(half.float(), own + 1, atol=1e-2)


@pytest.mark.parametrize("family", ["sd15", "sdxl"])
def test_a_file_that_is_no_checkpoint_is_a_sentence(tmp_path, family):
    save_file({"x": torch.zeros(1)}, tmp_path / "one.safetensors")
    preset = write_preset(tmp_path, family, "one.safetensors")
    with pytest.raises(EngineError, match=r"Mine cannot be loaded from .*one\.safetensors"):
        Engine.load(preset, Device("cpu", torch.float32), None)


def test_pickled_components_are_not_loaded(tmp_path):
    save_base(tmp_path / "base", "sd15", "")
    weights = tmp_path / "base" / "unet" / "diffusion_pytorch_model.safetensors"
    torch.save({}, weights.with_suffix(".bin"))
    weights.unlink()
    preset = write_preset(tmp_path, "sd15", "base")
    with pytest.raises(EngineError, match="Mine cannot be loaded"):
        Engine.load(preset, Device("cpu", torch.float32), None)


def test_stop_while_loading_ends_the_run(tmp_path):
    save_base(tmp_path / "base", "sd15")
    write_preset(tmp_path, "sd15", "base")
    studio = Studio(output_dir=tmp_path / "out", presets_dir=tmp_path, device="cpu", threads=1)
    cancel = threading.Event()
    recipe = studio.catalogue.resolve("mine", prompt="x", seed=1, num_inference_steps=2)
    with pytest.raises(Cancelled):
        studio.generate(
            recipe, None, cancel=cancel, on_progress=lambda p: cancel.set() if "Loading" in p.stage else None
        )
    assert not studio.ready
    assert isinstance(studio.generate(recipe, None).images[0], Image.Image)
