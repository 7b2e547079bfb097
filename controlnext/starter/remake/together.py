"""Train the base under control modules: a picture is learned sooner where its pose, edges or depth are told.

The modules are an older starter's and stay as they are, which saves a third of the time. Each batch is drawn under one kind of control, some of
its pictures from words alone and some from nothing, so that one UNet draws them all. Other adapters learn later, on this UNet as it is then.
"""

from __future__ import annotations

import copy
import logging
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor
from torch.nn import functional

from controlnext.assets import STARTER
from controlnext.method.adapter import ControlNeXtAdapter
from controlnext.method.injection import attach
from controlnext.method.model import ControlNeXtModel
from controlnext.starter.remake.base import (
    HELD_OUT,
    PARTS_WEIGHT,
    RATE,
    SHEET,
    Lessons,
    held_out_loss,
    importance,
    latents_of,
    make_networks,
    shares_of_parts,
    tokenize,
)
from controlnext.starter.remake.compute import CPU, Compute
from controlnext.starter.scenes.conditions import condition_of
from controlnext.starter.scenes.shards import Archive, make_example
from controlnext.starter.train.adapter import NOTHING, as_conditions, controlled
from controlnext.starter.train.base import Diffusion, make_pipeline, save_pipeline
from controlnext.starter.train.loop import Loop, Plan, rank
from controlnext.starter.world.sheets import save_sheet

logger = logging.getLogger(__name__)
KINDS = MappingProxyType({"pose": 0.5, "canny": 0.3, "depth": 0.2})
"""Kinds of control, and the share of batches under each."""

WORDS_ALONE = 0.3
"""Share of pictures without control; `NOTHING` of all have no prompt either."""


def _module(kind: str, start: Path, compute: Compute) -> ControlNeXtModel:
    """Return the frozen control module of a kind, from the starter in `start` or else from the bundled one."""
    folders = (starter / "adapters" / kind for starter in (start, STARTER))
    adapter = ControlNeXtAdapter.from_pretrained(next(folder for folder in folders if folder.exists()))
    module = ControlNeXtModel.from_variant("starter")
    module.load_state_dict(adapter.module.state_dict())
    return compute.prepare(module).eval().requires_grad_(False)


def train(
    data: Path,
    vae_folder: Path,
    out: Path,
    plan: Plan,
    *,
    start: Path,
    batch: int = 16,
    compute: Compute = CPU,
) -> dict[str, float]:
    """Train UNet and text encoder under control modules; write `out / "pipeline"` and `out / "adapters"`.

    Args:
        data: Folder of encoded shards.
        vae_folder: The autoencoder that encoded them.
        out: Folder of results and the checkpoint.
        plan: Time budget.
        start: Folder of an older starter: its `base` and `adapters` are the start; the bundled starter has those it lacks.
        batch: Pictures a step and process.
        compute: Where.

    Returns:
        Steps, CPU minutes and the mean loss without control on pictures that no training sees.
    """
    vae = AutoencoderKL.from_pretrained(vae_folder)
    channels = vae.config.latent_channels
    tokenizer, unet, text, reader = make_networks(out, channels, start / "base", compute)
    modules = [_module(kind, start, compute) for kind in KINDS]
    trained = [*unet.parameters(), *text.parameters(), *reader.parameters()]
    loop = Loop(out, {"unet": unet, "text": text}, [(trained, RATE)], plan)
    archive = Archive(data, latents=f"latents-{channels}")
    lessons = Lessons(archive, tokenizer, batch * compute.batches, empty=0.05)
    nothing, figures = tokenize(tokenizer, [""]), {}

    def make(rng: np.random.Generator) -> tuple[Tensor, ...]:
        examples = lessons.examples(rng)
        number = int(rng.choice(len(KINDS), p=list(KINDS.values())))
        conditions = as_conditions([condition_of(list(KINDS)[number], e.view, rng) for e in examples])
        fate = torch.from_numpy(rng.random(len(examples)))
        tokens = torch.where((fate >= NOTHING)[:, None], lessons.tokens(examples, rng), nothing)
        told = (fate >= WORDS_ALONE).float()
        weights = importance(examples), shares_of_parts(examples)
        return latents_of(examples), tokens, *weights, conditions, told, torch.tensor(number)

    drawn = compute.stream(make, rank(), loop.step, 9)
    schedules = Diffusion(), Diffusion(late=True)
    injections = [attach(unet, module, "starter") for module in modules]

    def loss(step: int) -> Tensor:
        latents, tokens, weight, shares, conditions, told, number = next(drawn)
        noisy, t, target = schedules[step % 2].noised(latents)
        for index, injection in enumerate(injections):
            injection.set(conditions if index == number else None, told)
        with compute.autocast():
            predicted = unet(noisy, t, text(tokens).last_hidden_state).sample
        error = functional.mse_loss(predicted.float(), target, reduction="none") * weight
        return error.mean() + PARTS_WEIGHT * reader(shares)

    examples = [make_example(seed) for seed in range(SHEET)]

    def report() -> None:
        nonlocal injections
        for injection in injections:
            injection.detach()
        averaged = {name: network.cpu() for name, network in loop.averaged().items()}
        held_out = held_out_loss(averaged["unet"], averaged["text"], vae, tokenizer, HELD_OUT)
        figures.update(held_out=held_out, step=loop.step)
        logger.info("together: step %d, held-out loss %.4f", loop.step, held_out)
        pipeline = make_pipeline(averaged["unet"], averaged["text"], tokenizer, vae)
        captions, rows = [e.caption() for e in examples], []
        for kind, module in zip(KINDS, modules, strict=True):
            pictures = [condition_of(kind, e.view) for e in examples]
            rows += [pictures, controlled(pipeline, module.cpu(), as_conditions(pictures), captions)]
        rows += [
            controlled(pipeline, modules[0], as_conditions(rows[0]), captions, 0.0),
            [e.view.rgb for e in examples],
        ]
        save_sheet(out / "sheets" / f"{round(loop.elapsed / 60):04d}.png", rows)
        save_pipeline(pipeline, out / "pipeline")
        vae.float()
        for kind, module in zip(KINDS, modules, strict=True):
            facts = {"annotator": kind, "gamma": "1.0", "base": "starter", "steps": str(loop.step)}
            ControlNeXtAdapter(copy.deepcopy(module).half()).save_pretrained(out / "adapters" / kind, metadata=facts)
        injections = [attach(unet, module.to(compute.device), "starter") for module in modules]

    loop.run(loss, report)
    return {**figures, "minutes": round(loop.elapsed / 60, 1)}
