"""Train an adapter of the starter of people on conditions as photographs, readers and hands make them."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from torch import Tensor
from torch.nn import functional

from controlnext.method.adapter import ControlNeXtAdapter
from controlnext.method.injection import attach
from controlnext.method.model import ControlNeXtModel
from controlnext.starter.remake.base import SHEET, Lessons, importance, latents_of, tokenize
from controlnext.starter.remake.compute import CPU, Compute
from controlnext.starter.scenes.conditions import CONDITIONS, condition_of
from controlnext.starter.scenes.shards import Archive, make_example
from controlnext.starter.train.adapter import NOTHING, as_conditions, controlled, subset
from controlnext.starter.train.base import Diffusion
from controlnext.starter.train.loop import LIGHT, Loop, Plan, rank
from controlnext.starter.world.sheets import save_sheet

logger = logging.getLogger(__name__)
RATES = (1.5e-3, 5e-4)
"""Peak learning rates of the module and of the UNet subset."""


def _forget_other_base(out: Path, base: Path, module: ControlNeXtModel) -> None:
    """Drop the checkpoints of an adapter that was trained on another base, whose UNet weights they hold; keep its module.

    Args:
        out: The adapter's folder.
        base: Diffusers folder of the base.
        module: Gets the weights of the dropped checkpoint.
    """
    digest = hashlib.sha256()
    for file in sorted((base / "unet").glob("*.safetensors")):
        digest.update(file.read_bytes())
    mark = out / "base.sha256"
    if mark.exists() and mark.read_text() == digest.hexdigest():
        return
    for name in ("checkpoint.pt", LIGHT):
        path = out / name
        if path.exists():
            saved = torch.load(path, weights_only=True, map_location="cpu")["averages"]
            for parameter, value in zip(module.parameters(), saved, strict=False):  # the module's come first
                parameter.data.copy_(value)
            path.unlink()
    out.mkdir(parents=True, exist_ok=True)
    mark.write_text(digest.hexdigest())


def train(
    data: Path,
    base: Path,
    out: Path,
    plan: Plan,
    *,
    kind: str,
    start: Path | None = None,
    batch: int = 12,
    compute: Compute = CPU,
) -> dict[str, float]:
    """Train the adapter of one kind of condition; write an adapter folder to `out / "adapter"` at each checkpoint.

    Args:
        data: Folder of encoded shards.
        base: Diffusers folder of the base.
        out: Folder of results and the checkpoint.
        plan: Time budget.
        kind: One of `CONDITIONS`.
        start: Adapter folder to start from, e.g. another kind's.
        batch: Pictures a step.
        compute: Where.

    Returns:
        Steps, minutes and the last mean loss.
    """
    pipeline = StableDiffusionPipeline.from_pretrained(base, dtype=torch.float32, safety_checker=None)
    pipeline.set_progress_bar_config(disable=True)
    unet, text = compute.prepare(pipeline.unet).train(), pipeline.text_encoder.to(compute.device).eval()
    for frozen in (unet, text, pipeline.vae):
        frozen.requires_grad_(False)
    torch.manual_seed(1)
    module = compute.prepare(ControlNeXtModel.from_variant("starter")).train()
    trained = subset(unet)
    original = {key: parameter.detach().clone() for key, parameter in trained.items()}
    if start:
        other = ControlNeXtAdapter.from_pretrained(start)
        module.load_state_dict(other.module.state_dict())
        for key, difference in (other.unet_weights or {}).items():
            if trained[key].shape == difference.shape:  # the first and last layers have other latents
                trained[key].data += compute.put(difference.float())
    for parameter in trained.values():
        parameter.requires_grad_(True)
    _forget_other_base(out, base, module)
    groups = [(list(module.parameters()), RATES[0]), (list(trained.values()), RATES[1])]
    loop = Loop(out, {"module": module, "unet": unet}, groups, plan)
    archive = Archive(data, latents=f"latents-{pipeline.vae.config.latent_channels}")
    lessons = Lessons(archive, pipeline.tokenizer, batch * compute.batches, empty=0.05)
    diffusion, nothing = Diffusion(late=True), tokenize(pipeline.tokenizer, [""])

    def make(rng: np.random.Generator) -> tuple[Tensor, ...]:
        examples = lessons.examples(rng)
        conditions = as_conditions([condition_of(kind, e.view, rng) for e in examples])
        kept = torch.from_numpy(rng.random(len(examples)) >= NOTHING)
        tokens = torch.where(kept[:, None], lessons.tokens(examples, rng), nothing)
        return latents_of(examples), tokens, importance(examples), conditions, kept.float()

    drawn = compute.stream(make, rank(), loop.step, CONDITIONS.index(kind))
    injection, losses = attach(unet, module, "starter"), []

    def loss(_: int) -> Tensor:
        latents, tokens, weight, conditions, kept = next(drawn)
        noisy, t, target = diffusion.noised(latents)
        with compute.autocast():
            with torch.no_grad():
                states = text(tokens).last_hidden_state
            injection.set(conditions.contiguous(memory_format=torch.channels_last), kept)
            predicted = unet(noisy, t, states).sample
        error = functional.mse_loss(predicted.float(), target, reduction="none")
        value = (error * weight).mean()
        losses.append(float(value.detach()))
        return value

    held_out = [make_example(seed) for seed in range(SHEET)]

    def report() -> None:
        nonlocal injection
        injection.detach()
        averaged = {name: network.cpu() for name, network in loop.averaged().items()}
        pipeline.text_encoder.cpu()
        pictures = [condition_of(kind, e.view) for e in held_out]
        stock, pipeline.unet = pipeline.unet, averaged["unet"]
        results = controlled(pipeline, averaged["module"], as_conditions(pictures), [e.caption() for e in held_out])
        pipeline.unet = stock
        save_sheet(
            out / "sheets" / f"{round(loop.elapsed / 60):04d}.png", [pictures, results, [e.view.rgb for e in held_out]]
        )
        now = subset(averaged["unet"])
        delta = {key: (now[key].detach() - original[key].cpu()).half().contiguous() for key in original}
        facts = {"annotator": kind, "gamma": "1.0", "base": "starter", "steps": str(loop.step)}
        facts["minutes"] = f"{loop.elapsed / 60:.1f}"
        ControlNeXtAdapter(averaged["module"].half(), delta, kind="delta").save_pretrained(
            out / "adapter", metadata=facts
        )
        pipeline.text_encoder.to(compute.device)
        injection = attach(unet, module, "starter")

    loop.run(loss, report)
    return {
        "step": loop.step,
        "minutes": round(loop.elapsed / 60, 1),
        "loss": float(np.mean(losses[-50:] or [np.nan])),
    }
