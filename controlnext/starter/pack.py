"""Gather the finished parts of the starter under `assets/starter`, float16 and each file below 10 MB."""

import json
import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline

from controlnext.starter.conditions import CONDITIONS
from controlnext.starter.train_base import save_pipeline

ASSETS = Path(__file__).resolve().parents[2] / "assets" / "starter"


def pack(runs: Path, assets: Path = ASSETS) -> None:
    """Copy pipeline, adapters, reader and LoRAs from `runs` to `assets`; the decoder stage's VAE wins over the first."""
    pipeline = StableDiffusionPipeline.from_pretrained(
        runs / "base" / "pipeline", dtype=torch.float32, safety_checker=None
    )
    if (runs / "decoder" / "config.json").exists():
        pipeline.vae = AutoencoderKL.from_pretrained(runs / "decoder")
    shutil.rmtree(assets / "base", ignore_errors=True)
    save_pipeline(pipeline, assets / "base")
    _drop_local_paths(assets / "base")
    for name in CONDITIONS:
        source = runs / "adapters" / name / "adapter"
        if source.exists():
            shutil.copytree(source, assets / "adapters" / name, dirs_exist_ok=True)
    for source, target in ((runs / "reader", assets / "annotator"), (runs / "loras", assets / "loras")):
        target.mkdir(parents=True, exist_ok=True)
        for file in source.glob("*.safetensors"):
            shutil.copy(file, target / file.name)


def _drop_local_paths(folder: Path) -> None:
    """Remove the paths of this machine that diffusers writes into configurations."""
    for path in folder.rglob("*.json"):
        content = json.loads(path.read_text())
        if isinstance(content, dict) and content.pop("_name_or_path", None) is not None:
            path.write_text(json.dumps(content, indent=2) + "\n")
