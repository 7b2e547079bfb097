"""A fine-tuned base for the plug-in bench: all weights of the starter's UNet trained for minutes on repainted scenes.

The look, `film`, is none of the bundled styles and keeps all colours apart, so that the colours of a prompt can still be read.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from controlnext.bench.convergence.trials import BETAS, CLIP, WEIGHT_DECAY, Scenes, load_base, states_of, with_latents
from controlnext.starter.train.base import EMPTY_PROMPTS
from controlnext.starter.train.dataset import SceneSample, Shards
from controlnext.training.data.samples import Dropping, Loader, Order
from controlnext.training.losses import DiscreteProcess, weighted_error
from controlnext.training.methods import call_unet
from controlnext.training.quick import cpu_autocast, quicken

logger = logging.getLogger(__name__)
_WARM, _SHADOW = np.array([0.80, 0.66, 0.50], np.float32), np.array([0.19, 0.14, 0.12], np.float32)


@dataclass(frozen=True)
class FineTune:
    """How the base is changed: AdamW on all UNet weights; the text encoder stays.

    Attributes:
        pictures: repainted scenes.
        steps: training steps.
        batch: pictures a step.
        rate: peak learning rate.
        warm_up: steps in which it rises.
    """

    pictures: int = 256
    steps: int = 200
    batch: int = 16
    rate: float = 2e-4
    warm_up: int = 20


def film(rgb: np.ndarray) -> np.ndarray:
    """Repaint (H, W, 3) uint8 as on an old film: warm, faded, shadows brown."""
    faded = (rgb.astype(np.float32) / 255) ** np.float32(0.9) * _WARM + _SHADOW
    return (np.clip(faded, 0, 1) * 255 + 0.5).astype(np.uint8)


def repainted(samples: Iterable[SceneSample], repaint: Callable[[np.ndarray], np.ndarray]) -> list[SceneSample]:
    """Return scenes with repainted pictures; everything else about them stays."""
    return [
        replace(sample, picture=replace(sample.picture, rgb=repaint(np.array(sample.picture.rgb))))
        for sample in samples
    ]


def fine_tune(assets: Path, data: Path, out: Path, plan: FineTune) -> Path:
    """Train the UNet, or take an existing one.

    Args:
        assets: folder of the starter.
        data: folder of shards.
        out: folder that keeps changed bases, a folder each.
        plan: pictures, steps and rates.

    Returns:
        The UNet's folder.
    """
    folder = out / f"film-{plan.steps}x{plan.batch}-{plan.pictures}-{plan.rate:g}"
    if folder.is_dir():
        return folder
    pipeline = load_base(assets)
    pipeline.text_encoder.eval().requires_grad_(False)
    shards = Shards(data, latents=False)
    chosen = np.random.default_rng(1).permutation(len(shards))[: plan.pictures]
    vae = pipeline.vae.to(torch.bfloat16).eval()  # it only encodes, and is quickest in bfloat16
    samples = with_latents(vae, repainted((shards[i] for i in chosen), film))
    scenes = Scenes(samples, "pose", partial(states_of, pipeline))  # the condition is not looked at
    process = DiscreteProcess(pipeline.scheduler)
    torch.manual_seed(0)
    unet = quicken(pipeline.unet).train()
    optimizer = torch.optim.AdamW(unet.parameters(), betas=BETAS, weight_decay=WEIGHT_DECAY)
    loader = Loader(scenes, Order(scenes, plan.batch, 0), Dropping(EMPTY_PROMPTS), batch=plan.batch)
    for step, (batch,) in enumerate(loader.steps(0, plan.steps)):
        for group in optimizer.param_groups:
            group["lr"] = plan.rate * min(1.0, (step + 1) / plan.warm_up)
        row = batch.to(torch.device("cpu"))
        noised = process.noised(row.latents, row.noise, row.share)
        with cpu_autocast():
            predicted = call_unet(unet, noised.sample, noised.timestep, row.states)
        loss = weighted_error(predicted, noised, row.weight)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(unet.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad()
        if step % 20 == 0:
            logger.info("fine-tuning the base: step %d of %d, loss %.4f", step, plan.steps, loss.item())
    partial_folder = folder.with_name(f"{folder.name}.part")
    torch.nn.Module.to(unet, torch.float16)  # diffusers' own `to` warns about float32 parts that this UNet lacks
    unet.save_pretrained(partial_folder)
    partial_folder.rename(folder)
    return folder
