"""Train the starter's transformer: of SD3's class, on the latents and the words of the starter's UNet.

It learns from what the UNet predicts for the same noised latents, which has far less noise than the noise itself and so needs
far fewer pictures (Salimans and Ho, arXiv 2202.00512, train students that way). The UNet predicts v on its own schedule, the
transformer a flow from pictures to noise; `Flow.taught` converts.
"""

import logging
from collections import deque
from pathlib import Path

import numpy as np
import torch
from diffusers import (
    FlowMatchEulerDiscreteScheduler,
    SD3Transformer2DModel,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from torch import Tensor, nn
from torch.nn import functional

from controlnext.method.transformer_pipelines import StableDiffusion3ControlNeXtPipeline
from controlnext.starter.train.base import SHARD_SIZE, SceneBatches, importance
from controlnext.starter.train.dataset import make_samples
from controlnext.starter.train.loop import Loop, Plan
from controlnext.starter.train.networks import LATENT_SIZE, TEXT_WIDTH, make_scheduler
from controlnext.starter.world.sheets import save_sheet
from controlnext.training.quick import quicken

logger = logging.getLogger(__name__)
FIGURE_WEIGHT = 3.0
"""Of the loss on people; sky and ground are learned soon."""
TOKENS = LATENT_SIZE // 2
REPLAYED, KEPT = 0.5, 256
"""Share of a batch that was taught before, which saves the UNet's time, and how many of the last lessons are kept for it."""


def make_transformer(width: int = 192, layers: int = 4, heads: int = 3) -> SD3Transformer2DModel:
    """Return the untrained transformer: patches of 2 x 2 latents, 16 pixels a side; its modulations begin at zero."""
    model = SD3Transformer2DModel(
        sample_size=LATENT_SIZE,
        patch_size=2,
        in_channels=4,
        out_channels=4,
        num_layers=layers,
        attention_head_dim=width // heads,
        num_attention_heads=heads,
        joint_attention_dim=TEXT_WIDTH,
        caption_projection_dim=width,
        pooled_projection_dim=TEXT_WIDTH,
        pos_embed_max_size=TOKENS,
        qk_norm="rms_norm",
    )
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and (
            name.endswith(("norm1.linear", "norm1_context.linear")) or name == "proj_out"
        ):
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)
    return model


class Flow:
    """The straight path from latents (sigma 0) to noise (sigma 1), and the UNet's schedule beside it."""

    def __init__(self, *, shift: float = 0.3) -> None:
        """Read the UNet's schedule; `shift` moves the logit-normal density of sigmas (Esser et al., arXiv 2403.03206)."""
        alphas = make_scheduler().alphas_cumprod.double()
        self._levels = (1 - alphas).sqrt().numpy()
        self.shift = shift

    def sigmas(self, count: int) -> Tensor:
        """Draw `(count, 1, 1, 1)` noise levels."""
        return torch.sigmoid(torch.randn(count) + self.shift).view(-1, 1, 1, 1)

    def taught(self, unet: UNet2DConditionModel, noisy: Tensor, sigmas: Tensor, states: Tensor) -> Tensor:
        """Return the flow (noise minus latents) that the UNet sees in noisy latents (B, 4, h, w)."""
        scale = ((1 - sigmas) ** 2 + sigmas**2).sqrt()
        signal, noise = (1 - sigmas) / scale, sigmas / scale
        levels = noise.flatten().double().numpy()
        timesteps = torch.from_numpy(np.interp(levels, self._levels, np.arange(len(self._levels)))).float()
        own = noisy / scale
        v = unet(own.contiguous(memory_format=torch.channels_last), timesteps, states).sample
        return (noise - signal) * own + (signal + noise) * v


def make_pipeline(transformer: nn.Module, stock: StableDiffusionPipeline) -> StableDiffusion3ControlNeXtPipeline:
    """Put a transformer, and the words and the autoencoder of the starter's stock pipeline, together."""
    stock.vae.register_to_config(shift_factor=0.0)  # which SD3's pipeline asks for
    pipeline = StableDiffusion3ControlNeXtPipeline(
        transformer=transformer, scheduler=FlowMatchEulerDiscreteScheduler(shift=1.0), vae=stock.vae,
        text_encoder=stock.text_encoder, tokenizer=stock.tokenizer,
        text_encoder_2=None, tokenizer_2=None, text_encoder_3=None, tokenizer_3=None,
    )  # fmt: skip
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def load_pipeline(assets: Path, transformer: Path) -> StableDiffusion3ControlNeXtPipeline:
    """Load a transformer's folder with the words and the autoencoder of the starter's folder, float32.

    Saved by `save_pretrained`, the result is a base that `python -m controlnext train` takes.
    """
    stock = StableDiffusionPipeline.from_pretrained(assets / "base", dtype=torch.float32, safety_checker=None)
    for part in (stock.text_encoder, stock.vae):
        part.eval().requires_grad_(False)
    model = SD3Transformer2DModel.from_pretrained(transformer, dtype=torch.float32)
    return make_pipeline(model.eval(), stock)


def draw(pipeline: StableDiffusion3ControlNeXtPipeline, captions: list[str], steps: int = 20) -> np.ndarray:
    """Draw (B, 256, 256, 3) uint8 pictures, picture i from seed i."""
    result = pipeline(
        captions, height=8 * LATENT_SIZE, width=8 * LATENT_SIZE, num_inference_steps=steps, guidance_scale=3.0,
        generator=[torch.Generator().manual_seed(seed) for seed in range(len(captions))], output_type="np",
    )  # fmt: skip
    return (result.images * 255 + 0.5).astype(np.uint8)


def train(data: Path, teacher: Path, out: Path, plan: Plan, *, rate: float = 1.2e-3, batch: int = 8) -> None:
    """Train the transformer; write it to `out / "transformer"` at each report.

    Args:
        data: Folder of encoded shards.
        teacher: Diffusers folder of the starter's base, whose UNet teaches.
        out: Folder of results and the checkpoint.
        plan: Time budget.
        rate: Peak learning rate.
        batch: Pictures a step.
    """
    pipeline = StableDiffusionPipeline.from_pretrained(teacher, dtype=torch.float32, safety_checker=None)
    for part in (pipeline.unet, pipeline.text_encoder, pipeline.vae):
        part.eval().requires_grad_(False)
    unet = quicken(pipeline.unet)
    torch.manual_seed(0)
    model = make_transformer().train()
    logger.info("transformer %.2fM", sum(p.numel() for p in model.parameters()) / 1e6)
    loop = Loop(out, {"transformer": model}, [(list(model.parameters()), rate)], plan)
    replayed = int(batch * REPLAYED)
    batches, flow = SceneBatches(data, pipeline.tokenizer, batch - replayed), Flow()
    bank: deque[tuple[Tensor, ...]] = deque(maxlen=KEPT)

    def lessons() -> list[tuple[Tensor, ...]]:
        """Ask the UNet: noisy latents, sigma, states, pooled states, flow and weight of each."""
        samples = batches.samples()
        latents = batches.latents(samples)
        sigmas = flow.sigmas(len(latents))
        noisy = (1 - sigmas) * latents + sigmas * torch.randn_like(latents)
        with torch.no_grad():
            words = pipeline.text_encoder(batches.tokens(samples))
            states, pooled = words.last_hidden_state, words.pooler_output
            target = flow.taught(unet, noisy, sigmas, states)
        return list(zip(noisy, sigmas, states, pooled, target, importance(samples, FIGURE_WEIGHT), strict=True))

    def loss(step: int) -> Tensor:
        new = lessons()
        old = batches.rng.integers(0, len(bank), replayed) if bank else []
        noisy, sigmas, states, pooled, target, weight = map(
            torch.stack, zip(*new, *(bank[i] for i in old), strict=True)
        )
        bank.extend(new)
        predicted = model(noisy, states, pooled, sigmas.flatten() * 1000).sample
        return (functional.mse_loss(predicted, target, reduction="none") * weight).mean()

    held_out = [make_samples(seed, 1)[0] for seed in range(8)]

    def report() -> None:
        averaged = loop.averaged()["transformer"]
        drawn = draw(make_pipeline(averaged, pipeline), [sample.caption() for sample in held_out])
        save_sheet(out / "sheets" / f"{round(loop.elapsed / 60):03d}.png", [drawn, [s.picture.rgb for s in held_out]])
        averaged.to(torch.float16).save_pretrained(out / "transformer", max_shard_size=SHARD_SIZE)

    loop.run(loss, report)
