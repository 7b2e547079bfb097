"""Train one ControlNeXt adapter of the starter: the control module and the differences of a small UNet subset."""

import logging
import re
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from torch import Tensor
from torch.nn import functional

from controlnext.method.injection import attach
from controlnext.method.model import ControlNeXtModel
from controlnext.starter.train.base import Diffusion, SceneBatches, importance, tokenize
from controlnext.starter.train.dataset import make_samples
from controlnext.starter.train.loop import Loop, Plan
from controlnext.starter.world.conditions import condition
from controlnext.starter.world.sheets import save_sheet
from controlnext.training.quick import cpu_autocast, quicken

logger = logging.getLogger(__name__)
# The UNet weights that learn with the module: where features are mixed again after attention, and the encoder's convolutions.
SUBSET = re.compile(r".*to_out.*|conv_in.*|(down_blocks|mid_block).*\.conv[12]\..*")
# Share of pictures without prompt and control, which trains the unconditional half of classifier-free guidance.
STEPS = 20
"""Of the pictures that a stage shows under control."""

NOTHING = 0.1
# The figure covers a tenth of a picture; it is what a control is for.
FIGURE_WEIGHT = 3.0


def subset(unet: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """Return the parameters that `SUBSET` names."""
    return {name: parameter for name, parameter in unet.named_parameters() if SUBSET.fullmatch(name)}


def as_conditions(pictures: list[np.ndarray]) -> Tensor:
    """Turn (H, W, 3) uint8 pictures into (B, 3, H, W) float32 in [0, 1]."""
    batch = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255
    return batch.contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def controlled(
    pipeline: StableDiffusionPipeline,
    module: ControlNeXtModel,
    conditions: Tensor,
    captions: list[str],
    gamma: float = 1.0,
) -> np.ndarray:
    """Generate (B, 256, 256, 3) uint8 pictures, picture i from seed i, under control."""
    with attach(pipeline.unet, module, "starter", conditions, gamma):
        generators = [torch.Generator().manual_seed(i) for i in range(len(captions))]
        result = pipeline(
            captions, num_inference_steps=STEPS, guidance_scale=3.0, generator=generators, output_type="np"
        )
    return (result.images * 255 + 0.5).astype(np.uint8)


def train(
    data: Path,
    base: Path,
    out: Path,
    plan: Plan,
    *,
    name: str,
    start: Path | None = None,
    rates: tuple[float, float] = (1.5e-3, 5e-4),
    batch: int = 16,
) -> None:
    """Train the adapter `name` on the pipeline in `base`; write an adapter folder to `out / "adapter"`.

    Args:
        data: Folder of encoded shards.
        base: Diffusers folder of the starter.
        out: Folder of results and the checkpoint.
        plan: Time budget.
        name: One of `CONDITIONS`.
        start: Adapter folder to start from: for example another condition's, which has learned most of what this one needs.
        rates: Peak learning rates of the module and of the UNet subset.
        batch: Pictures per step.
    """
    from controlnext.method.adapter import ControlNeXtAdapter

    pipeline = StableDiffusionPipeline.from_pretrained(base, dtype=torch.float32, safety_checker=None)
    pipeline.set_progress_bar_config(disable=True)
    unet, text = quicken(pipeline.unet).train(), pipeline.text_encoder.eval()
    pipeline.vae.to(memory_format=torch.channels_last)
    for frozen in (unet, text, pipeline.vae):
        frozen.requires_grad_(False)
    torch.manual_seed(1)
    module = quicken(ControlNeXtModel.from_variant("starter")).train()
    trained = subset(unet)
    original = {key: parameter.detach().clone() for key, parameter in trained.items()}
    if start:
        other = ControlNeXtAdapter.from_pretrained(start)
        module.load_state_dict(other.module.state_dict())
        for key, difference in other.unet_weights.items():
            trained[key].data += difference
    for parameter in trained.values():
        parameter.requires_grad_(True)
    counts = [sum(p.numel() for p in group) / 1e6 for group in (module.parameters(), trained.values())]
    logger.info("%s: module %.2fM, UNet subset %.2fM", name, *counts)
    groups = [(list(module.parameters()), rates[0]), (list(trained.values()), rates[1])]
    loop = Loop(out, {"module": module, "unet": unet}, groups, plan)
    batches, diffusion = SceneBatches(data, pipeline.tokenizer, batch, empty=0.05), Diffusion(late=True)
    nothing = tokenize(pipeline.tokenizer, [""])
    injection = attach(unet, module, "starter")

    def loss(step: int) -> Tensor:
        samples = batches.samples()
        noisy, t, target = diffusion.noised(batches.latents(samples))
        conditions = as_conditions([condition(name, s.picture, batches.rng) for s in samples])
        kept = torch.rand(batch) >= NOTHING
        tokens = torch.where(kept[:, None], batches.tokens(samples), nothing)
        with cpu_autocast():
            with torch.no_grad():
                states = text(tokens).last_hidden_state
            injection.set(conditions, kept.float())
            predicted = unet(noisy, t, states).sample
        error = functional.mse_loss(predicted.float(), target, reduction="none")
        return (error * importance(samples, FIGURE_WEIGHT)).mean()

    held_out = [make_samples(seed, 1)[0] for seed in range(8)]

    def report() -> None:
        nonlocal injection
        injection.detach()
        averaged = loop.averaged()
        pictures = [condition(name, sample.picture) for sample in held_out]
        stock, pipeline.unet = pipeline.unet, averaged["unet"]
        results = controlled(pipeline, averaged["module"], as_conditions(pictures), [s.caption() for s in held_out])
        pipeline.unet = stock
        save_sheet(
            out / "sheets" / f"{round(loop.elapsed / 60):03d}.png",
            [pictures, results, [s.picture.rgb for s in held_out]],
        )
        now = subset(averaged["unet"])
        delta = {key: (now[key].detach() - original[key]).half().contiguous() for key in original}
        adapter = ControlNeXtAdapter(averaged["module"].half(), delta, kind="delta")
        facts = {
            "annotator": name,
            "gamma": "1.0",
            "base": "starter",
            "steps": str(loop.step),
            "minutes": f"{loop.elapsed / 60:.1f}",
        }
        adapter.save_pretrained(out / "adapter", metadata=facts)
        injection = attach(unet, module, "starter")

    loop.run(loss, report)
