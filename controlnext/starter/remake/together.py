"""Train the base under a control module for poses: a picture is learned sooner where its pose is told.

The module is an older starter's and stays as it is, which saves a third of the time. Most pictures of a batch are drawn under their pose, some from words alone and some from nothing, so that one UNet draws all three.
Other adapters learn later, on this UNet as it is then.
"""

from __future__ import annotations

import copy
import logging
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor
from torch.nn import functional

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
KIND = "pose"
WORDS_ALONE = 0.3
"""Share of pictures without their pose; `NOTHING` of all have no prompt either."""


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
    """Train UNet and text encoder under a control module; write `out / "pipeline"` and `out / "adapter"`.

    Args:
        data: Folder of encoded shards.
        vae_folder: The autoencoder that encoded them.
        out: Folder of results and the checkpoint.
        plan: Time budget.
        start: Folder of an older starter: its `base` and `adapters/pose` are the start.
        batch: Pictures a step and process.
        compute: Where.

    Returns:
        Steps, CPU minutes and the mean loss without control on pictures that no training sees.
    """
    vae = AutoencoderKL.from_pretrained(vae_folder)
    channels = vae.config.latent_channels
    tokenizer, unet, text, reader = make_networks(out, channels, start / "base", compute)
    module = ControlNeXtModel.from_variant("starter")
    module.load_state_dict(ControlNeXtAdapter.from_pretrained(start / "adapters" / KIND).module.state_dict())
    module = compute.prepare(module).eval().requires_grad_(False)
    trained = [*unet.parameters(), *text.parameters(), *reader.parameters()]
    loop = Loop(out, {"unet": unet, "text": text}, [(trained, RATE)], plan)
    archive = Archive(data, latents=f"latents-{channels}")
    lessons = Lessons(archive, tokenizer, batch * compute.batches, empty=0.05)
    nothing, figures = tokenize(tokenizer, [""]), {}

    def make(rng: np.random.Generator) -> tuple[Tensor, ...]:
        examples = lessons.examples(rng)
        conditions = as_conditions([condition_of(KIND, e.view, rng) for e in examples])
        fate = torch.from_numpy(rng.random(len(examples)))
        tokens = torch.where((fate >= NOTHING)[:, None], lessons.tokens(examples, rng), nothing)
        posed = (fate >= WORDS_ALONE).float()
        return latents_of(examples), tokens, importance(examples), shares_of_parts(examples), conditions, posed

    drawn = compute.stream(make, rank(), loop.step, 9)
    schedules = Diffusion(), Diffusion(late=True)
    injection = attach(unet, module, "starter")

    def loss(step: int) -> Tensor:
        latents, tokens, weight, shares, conditions, posed = next(drawn)
        noisy, t, target = schedules[step % 2].noised(latents)
        injection.set(conditions, posed)
        with compute.autocast():
            predicted = unet(noisy, t, text(tokens).last_hidden_state).sample
        error = functional.mse_loss(predicted.float(), target, reduction="none") * weight
        return error.mean() + PARTS_WEIGHT * reader(shares)

    examples = [make_example(seed) for seed in range(SHEET)]

    def report() -> None:
        nonlocal injection
        injection.detach()
        averaged = {name: network.cpu() for name, network in loop.averaged().items()}
        held_out = held_out_loss(averaged["unet"], averaged["text"], vae, tokenizer, HELD_OUT)
        figures.update(held_out=held_out, step=loop.step)
        logger.info("together: step %d, held-out loss %.4f", loop.step, held_out)
        pipeline = make_pipeline(averaged["unet"], averaged["text"], tokenizer, vae)
        pictures, captions = [condition_of(KIND, e.view) for e in examples], [e.caption() for e in examples]
        rows = [controlled(pipeline, module.cpu(), as_conditions(pictures), captions, g) for g in (1.0, 0.0)]
        renders = [e.view.rgb for e in examples]
        save_sheet(out / "sheets" / f"{round(loop.elapsed / 60):04d}.png", [pictures, *rows, renders])
        save_pipeline(pipeline, out / "pipeline")
        vae.float()
        facts = {"annotator": KIND, "gamma": "1.0", "base": "starter", "steps": str(loop.step)}
        ControlNeXtAdapter(copy.deepcopy(module).half()).save_pretrained(out / "adapter", metadata=facts)
        injection = attach(unet, module.to(compute.device), "starter")

    loop.run(loss, report)
    return {**figures, "minutes": round(loop.elapsed / 60, 1)}
