"""Tiny random checkpoints laid out as the released ones: the same files, classes, key names and kinds."""

import json
import shutil
from pathlib import Path

import torch
from diffusers import (
    DiffusionPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    StableVideoDiffusionPipeline,
)
from fake_hub import FakeHub
from safetensors.torch import save_file
from tiny_models import (
    CHANNELS,
    make_module,
    make_text_encoder,
    make_tokenizer,
    make_unet,
    make_video_unet,
    sd_components,
    sdxl_components,
    svd_components,
)
from transformers import CLIPTextModelWithProjection

from controlnext.models.hub import Repo
from controlnext.models.presets import load_presets
from controlnext.models.sources import CONTROL_FILES

KINDS = {"sd15": StableDiffusionPipeline, "sdxl": StableDiffusionXLPipeline}


def components(family: str) -> dict:
    return sd_components() if family == "sd15" else sdxl_components()


def deep_components(family: str) -> dict:
    """Components whose UNet has the depth of the released ones, for the original key names."""
    found = components(family) | {"unet": None}
    blocks = {"layers_per_block": 2}
    if family == "sd15":
        blocks |= {
            "block_out_channels": (16, 32, 32, 32),
            "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
            "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        }
    else:
        second = make_text_encoder(32, CLIPTextModelWithProjection)
        found |= {"text_encoder_2": second, "tokenizer_2": make_tokenizer()}
        blocks |= {
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            "cross_attention_dim": 16 + 32,
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 8,
            "projection_class_embeddings_input_dim": 6 * 8 + 32,
            "transformer_layers_per_block": (1, 1, 2),
            "use_linear_projection": True,
        }
    return found | {"unet": make_unet(**blocks)}


def save_base(folder: Path, family: str, file_variant: str = "fp16") -> None:
    """A base model as the hub has it: weights in several precisions, a checker nobody asked for."""
    made: DiffusionPipeline = KINDS[family](**components(family))
    made.save_pretrained(folder, variant=file_variant or None, safe_serialization=True)
    (folder / "safety_checker").mkdir(exist_ok=True)
    (folder / "safety_checker" / "model.safetensors").write_bytes(b"never needed")


def save_adapter(folder: Path, variant: str, names, *, original: bool = False) -> None:
    """A released adapter: no word on what its files are. Its configuration is there only since its module is tiny."""
    folder.mkdir(parents=True, exist_ok=True)
    module = make_module(variant, CHANNELS[variant])
    control = next(name for name in names if name in CONTROL_FILES)
    own = {"made_for": f"{folder.parent.name}/{folder.name}"}  # no two files alike: the hub's cache would share them
    save_file(module.state_dict(), folder / control, own)
    unet = make_unet() if variant.startswith("sd15") else components("sdxl")["unet"]
    touched = {key: value for key, value in unet.state_dict().items() if "attn2.to_out" in key}
    weights = {
        key: 0.05 * torch.randn(value.shape, generator=torch.Generator().manual_seed(7))
        for key, value in touched.items()
    }
    if original:
        weights = {_original(key): value for key, value in weights.items()}
    save_file({key: value.half() for key, value in weights.items()}, folder / "unet.safetensors", own)
    layout = {key: value for key, value in module.config.items() if not key.startswith("_") and key != "variant_name"}
    (folder / "config.json").write_text(json.dumps({"variant": variant, "module": layout}))


def save_video(folder: Path) -> None:
    """A video base as the hub has it."""
    StableVideoDiffusionPipeline(**svd_components()).save_pretrained(folder, variant="fp16", safe_serialization=True)


def save_video_adapter(folder: Path, variant: str) -> None:
    """A released video adapter: pickled, with the whole UNet."""
    folder.mkdir(parents=True, exist_ok=True)
    module = make_module(variant, CHANNELS[variant])
    torch.save(module.state_dict(), folder / "controlnet.bin")
    torch.save({key: 1.01 * value for key, value in make_video_unet().state_dict().items()}, folder / "unet.bin")
    layout = {key: value for key, value in module.config.items() if not key.startswith("_") and key != "variant_name"}
    (folder / "config.json").write_text(json.dumps({"variant": variant, "module": layout}))


def released_hub(folder: Path) -> FakeHub:
    """A hub with a tiny stand-in for every repository that a released preset names, under the exact file names."""
    made = FakeHub()
    for preset in load_presets()[0].values():
        if preset.family not in ("sd15", "sdxl", "svd"):
            continue
        base = folder / preset.family
        if not base.exists():
            save_video(base) if preset.video else save_base(base, preset.family)
        made.add_folder(preset.base.repo, base)
        if preset.base.gated:
            made.gated.add(preset.base.repo)
        if preset.vae:
            vae = folder / "vae"
            if not vae.exists():
                vae.mkdir()
                shutil.copy(base / "vae" / "config.json", vae)
                weights = "diffusion_pytorch_model.safetensors"
                shutil.copy(base / "vae" / weights.replace(".", ".fp16.", 1), vae / weights)
            made.add_folder(preset.vae.repo, vae)
        for kind, row in preset.adapters.items():
            place = folder / preset.name / kind
            if preset.video:
                save_video_adapter(place, preset.variant)
            else:
                save_adapter(place, preset.variant, row.files, original=preset.name == "sdxl-anime")
            repo = Repo.parse(row.repo)
            made.add_folder(repo.id, place, f"{repo.folder}/" if repo.folder else "")
    return made


def _original(key: str) -> str:
    """Original SDXL name of an attention's key; blocks count as if each had two resnets, as the released ones do."""
    side, *rest = key.split(".")
    if side == "mid_block":  # mid_block.attentions.0.*
        return f"middle_block.1.{'.'.join(rest[2:])}"
    block, _, layer, *rest = rest
    index = 3 * int(block) + int(layer) + (side == "down_blocks")
    return f"{'input' if side == 'down_blocks' else 'output'}_blocks.{index}.1.{'.'.join(rest)}"
