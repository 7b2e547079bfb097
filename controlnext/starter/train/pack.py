"""Gather the finished parts of the starter under `assets/starter`, float16 and each file below 10 MB."""

import json
import shutil
import tempfile
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLTemporalDecoder,
    StableDiffusionPipeline,
    StableVideoDiffusionPipeline,
    UNetSpatioTemporalConditionModel,
)
from transformers import CLIPVisionModelWithProjection

from controlnext.assets import STARTER
from controlnext.starter.train.base import save_pipeline
from controlnext.starter.train.video_networks import make_feature_extractor, make_video_scheduler
from controlnext.starter.world.conditions import CONDITIONS


def pack(runs: Path, assets: Path = STARTER) -> None:
    """Copy pipeline, adapters, reader and LoRAs from `runs` to `assets`; the decoder stage's VAE replaces the first one."""
    pipeline = StableDiffusionPipeline.from_pretrained(
        runs / "base" / "pipeline", dtype=torch.float32, safety_checker=None
    )
    if (runs / "decoder" / "config.json").exists():
        pipeline.vae = AutoencoderKL.from_pretrained(runs / "decoder")
    shutil.rmtree(assets / "base", ignore_errors=True)
    with tempfile.TemporaryDirectory() as made:
        save_pipeline(pipeline, Path(made) / "base")
        make_portable(Path(made) / "base")
        copy_tree(Path(made) / "base", assets / "base")
    for name in CONDITIONS:
        source = runs / "adapters" / name / "adapter"
        if source.exists():
            copy_tree(source, assets / "adapters" / name)
    if (runs / "small-decoder" / "config.json").exists():
        (assets / "decoder").mkdir(parents=True, exist_ok=True)
        for name in ("config.json", "diffusion_pytorch_model.safetensors"):
            shutil.copyfile(runs / "small-decoder" / name, assets / "decoder" / name)
    if (runs / "video" / "unet").exists():
        pack_video(runs, assets / "video")
    for source, target in (
        (runs / "reader", assets / "annotator"),
        *((runs / name, assets / name) for name in ("loras", "few-steps")),
    ):
        target.mkdir(parents=True, exist_ok=True)
        for file in source.glob("*.safetensors"):
            shutil.copyfile(file, target / file.name)


def pack_video(runs: Path, assets: Path) -> None:
    """Gather the video starter's pipeline and adapter from `runs` to `assets`."""
    trained = runs / "video-decoder"
    pipeline = StableVideoDiffusionPipeline(
        vae=AutoencoderKLTemporalDecoder.from_pretrained(trained if trained.exists() else runs / "video-vae"),
        image_encoder=CLIPVisionModelWithProjection.from_pretrained(runs / "image-encoder" / "image_encoder"),
        unet=UNetSpatioTemporalConditionModel.from_pretrained(runs / "video" / "unet"),
        scheduler=make_video_scheduler(),
        feature_extractor=make_feature_extractor(),
    )
    shutil.rmtree(assets / "base", ignore_errors=True)
    with tempfile.TemporaryDirectory() as made:
        save_pipeline(pipeline, Path(made) / "base")
        make_portable(Path(made) / "base")
        copy_tree(Path(made) / "base", assets / "base")
    copy_tree(runs / "video" / "adapter", assets / "adapters" / "pose")


def copy_tree(source: Path, target: Path) -> None:
    """Copy the contents without the permissions: safetensors writes files that only their owner may read."""
    shutil.copytree(source, target, dirs_exist_ok=True, copy_function=shutil.copyfile)


def make_portable(folder: Path) -> None:
    """Take the paths of this machine out of the configurations, and let every part load in float32 by default.

    The text encoder's configuration names the precision of its file, which transformers would keep; diffusers loads the
    other parts in float32, and a mixed pipeline does not run.
    """
    for path in folder.rglob("*.json"):
        content = json.loads(path.read_text())
        if not isinstance(content, dict) or not {"_name_or_path", "dtype"} & content.keys():
            continue
        content.pop("_name_or_path", None)
        if "dtype" in content:
            content["dtype"] = "float32"
        path.write_text(json.dumps(content, indent=2) + "\n")
