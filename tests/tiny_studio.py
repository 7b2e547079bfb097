"""Small random models of the real classes, saved as the studio expects them, and what tests of a studio ask of it."""

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from PIL import Image
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from controlnext import ControlNeXtAdapter, ControlNeXtModel

TEXT_WIDTH = 32
SIZE = 64

PRESET = f"""
title: Tiny
description: Random weights.
variant: starter
base: {{path: base, licence: none}}
sizes: {{width: {SIZE}, height: {SIZE}, minimum: 64, maximum: 128, choices: {{"1:1": [64, 64], "3:4": [72, 96]}}}}
defaults: {{num_inference_steps: 4, guidance_scale: 2.5}}
adapters:
  canny: {{path: canny}}
  pose: {{path: pose, gamma: 0.5, num_inference_steps: 3}}
  depth: {{path: depth}}
loras: [loras]
adherence_backend: starter
batch: 2
"""


def save_base(folder: Path) -> None:
    torch.manual_seed(0)
    letters = [chr(code) for code in range(33, 127)]
    vocabulary = {"<|startoftext|>": 0, "<|endoftext|>": 1}
    for letter in letters:
        for token in (letter, f"{letter}</w>"):
            vocabulary.setdefault(token, len(vocabulary))
    tokenizer = CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=16, pad_token="<|endoftext|>")
    text_encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(vocabulary),
            hidden_size=TEXT_WIDTH,
            intermediate_size=TEXT_WIDTH,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=16,
            bos_token_id=0,
            eos_token_id=1,
            pad_token_id=1,
        )
    )
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8, 8, 16, 16),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=SIZE,
    )
    unet = UNet2DConditionModel(
        sample_size=SIZE // 8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(64, 64),
        layers_per_block=1,
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=2,
        norm_num_groups=16,
    )
    StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=DDIMScheduler(
            beta_schedule="scaled_linear",
            beta_start=0.00085,
            beta_end=0.012,
            clip_sample=False,
            set_alpha_to_one=False,
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder, safe_serialization=True)


def save_adapter(folder: Path, seed: int, gamma: float = 1.0, delta: bool = True) -> None:
    torch.manual_seed(seed)
    key = "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_out.0.weight"
    weights = {key: 0.05 * torch.randn(64, 64)} if delta else None
    module = ControlNeXtModel.from_variant("starter")
    ControlNeXtAdapter(module, weights, "delta" if delta else None, gamma=gamma).save_pretrained(folder)


def save_lora(path: Path, seed: int, text_width: int = TEXT_WIDTH) -> None:
    torch.manual_seed(seed)
    unet = UNet2DConditionModel(
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(64, 64),
        layers_per_block=1,
        cross_attention_dim=text_width,
        attention_head_dim=2,
        norm_num_groups=16,
    )
    targets = ["to_q", "to_k", "to_v", "to_out.0"]
    unet.add_adapter(LoraConfig(r=4, lora_alpha=4, target_modules=targets, init_lora_weights=False))
    StableDiffusionPipeline.save_lora_weights(
        path.parent, unet_lora_layers=get_peft_model_state_dict(unet), weight_name=path.name
    )


def save_all(folder: Path) -> Path:
    """Write a preset `tiny` with everything it names into a folder; returns the folder."""
    save_base(folder / "base")
    for seed, kind in enumerate(("canny", "pose", "depth")):
        save_adapter(folder / kind, seed, gamma=0.75, delta=kind != "depth")
    (folder / "loras").mkdir()
    save_lora(folder / "loras" / "one.safetensors", 1)
    save_lora(folder / "loras" / "two.safetensors", 2)
    save_lora(folder / "loras" / "other base.safetensors", 3, text_width=2048)
    (folder / "starter.yaml").write_text(PRESET)
    return folder


class Annotation:
    def __init__(self, image, data=None):
        self.image, self.data = image, data


class Annotators:
    """Stands in for the package `annotators`: returns the picture itself, and remembers what it was asked."""

    def __init__(self):
        self.calls = []

    def annotate(self, name, image, **options):
        self.calls.append((name, options))
        return Annotation(image)


def picture(seed=0, size=(64, 64)):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


def pixels(result):
    return [np.asarray(image) for image in result.images]


def same(a, b):
    return len(a) == len(b) and all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def count_forwards(monkeypatch):
    """A list that grows with every forward of a control module."""
    calls = []
    forward = ControlNeXtModel.forward

    def counted(self, *args, **kwargs):
        calls.append(1)
        return forward(self, *args, **kwargs)

    monkeypatch.setattr(ControlNeXtModel, "forward", counted)
    return calls
