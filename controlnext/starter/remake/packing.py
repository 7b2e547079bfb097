"""Gather the trained weights in one folder of the form of `assets/starter`: float16, each file below 10 MB."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline

from controlnext.starter.remake.reader import WEIGHTS
from controlnext.starter.scenes.conditions import CONDITIONS
from controlnext.starter.train.base import save_pipeline
from controlnext.starter.train.pack import copy_tree, make_portable

LIMIT = 10_000_000
"""No file of the repository is larger, in bytes."""


def latest_pipeline(runs: Path) -> Path | None:
    """Return the diffusers folder of the base as far as it has been trained, or None where it was not yet."""
    made = (runs / stage / "pipeline" for stage in ("base", "together"))
    return next((folder for folder in made if folder.exists()), None)


def pack(runs: Path, target: Path) -> dict[str, float]:
    """Copy pipeline, adapters and reader from `runs` to `target`; the sharpened decoder replaces the first one.

    What was trained together stands for a base and adapters that were not trained on yet.

    Returns:
        The size of all files and of the largest one, in megabytes.

    Raises:
        ValueError: There is no base yet, or a file is larger than `LIMIT`.
    """
    made = latest_pipeline(runs)
    if made is None:
        raise ValueError(f"No base was trained in {runs} yet: run the stage `together` or `base` first.")
    pipeline = StableDiffusionPipeline.from_pretrained(made, dtype=torch.float32, safety_checker=None)
    if (runs / "decoder" / "config.json").exists():
        pipeline.vae = AutoencoderKL.from_pretrained(runs / "decoder")
    with tempfile.TemporaryDirectory() as folder:
        save_pipeline(pipeline, Path(folder) / "base")
        make_portable(Path(folder) / "base")
        shutil.rmtree(target / "base", ignore_errors=True)
        copy_tree(Path(folder) / "base", target / "base")
    for kind in CONDITIONS:
        source = runs / "adapters" / kind / "adapter"
        if not source.exists():
            source = runs / "together" / "adapters" / kind
        if source.exists():
            copy_tree(source, target / "adapters" / kind)
    if (runs / "reader" / WEIGHTS).exists():
        (target / "annotator").mkdir(parents=True, exist_ok=True)
        shutil.copyfile(runs / "reader" / WEIGHTS, target / "annotator" / WEIGHTS)
    sizes = [file.stat().st_size for file in target.rglob("*") if file.is_file()]
    if max(sizes) > LIMIT:
        raise ValueError(f"A file of the starter has {max(sizes)} bytes; the most is {LIMIT}. Lower the shard size.")
    return {"megabytes": round(sum(sizes) / 1e6, 1), "largest": round(max(sizes) / 1e6, 1)}
