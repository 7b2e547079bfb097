"""Train text encoder and UNet of the starter of people together on latents of scenes."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPTextModel, CLIPTokenizer

from controlnext.starter.remake.compute import CPU, Compute
from controlnext.starter.remake.networks import borrow, make_text_encoder, make_unet
from controlnext.starter.scenes.captions import MAX_TOKENS, vocabulary
from controlnext.starter.scenes.palette import FIGURE_PARTS, PART, PARTS
from controlnext.starter.scenes.shards import Archive, Example, make_example
from controlnext.starter.train.base import Diffusion, make_pipeline, save_pipeline
from controlnext.starter.train.loop import Loop, Plan, rank
from controlnext.starter.world.captions import write_tokenizer
from controlnext.starter.world.sheets import save_sheet

logger = logging.getLogger(__name__)
EMPTY_PROMPTS = 0.1
"""Share of empty prompts, which teaches the unconditional half of classifier-free guidance."""

FIGURE_WEIGHT, HEAD_WEIGHT = 2.0, 4.0
"""Weights of the loss on people and on heads; sky and ground are learned early."""

SHEET, SHEET_STEPS, HELD_OUT = 8, 16, 16
"""Numbers of pictures that a report draws and measures."""

RATE = 6e-4
"""Peak learning rate."""

SNR_CAP = 5.0
"""Cap of min-SNR weights (Hang et al., arXiv 2303.09556)."""

PARTS_WEIGHT = 0.1
"""Weight of the cross entropy of the parts of a picture, which a layer reads out of the UNet's first decoder block.

Features that tell parts early learn to draw them early: Yu et al., arXiv 2410.06940, align with those of another
network; a renderer knows the parts themselves.
"""

Weighting = Literal["v", "min-snr"]


class PartsReader(nn.Module):
    """Reads parts out of the features of the UNet's first decoder block, while it trains; it is no part of the result."""

    def __init__(self, unet: UNet2DConditionModel) -> None:
        """Listen to the block."""
        super().__init__()
        self.layer = nn.Conv2d(unet.config.block_out_channels[-1], len(PARTS), 1)
        self._features: Tensor | None = None
        unet.up_blocks[0].register_forward_hook(self._keep)

    def _keep(self, module: nn.Module, arguments: object, features: Tensor) -> None:
        self._features = features

    def forward(self, shares: Tensor) -> Tensor:
        """Return the cross entropy of the last run's features and (B, parts, h, w) shares of parts, h and w as the latents'."""
        features, self._features = self._features, None  # else copies of the UNet would hold the graph
        assert features is not None
        told = self.layer(features.float())
        wanted = functional.adaptive_avg_pool2d(shares, told.shape[-2:])
        return -(wanted * functional.log_softmax(told, 1)).sum(1).mean()


def shares_of_parts(examples: list[Example]) -> Tensor:
    """Return (B, parts, h, w) shares of each part in the cells of the latents, float32."""
    parts = np.stack([e.view.parts for e in examples])
    count, rows, columns = len(parts), parts.shape[1] // 8, parts.shape[2] // 8
    cells = np.arange(count * rows * columns).reshape(count, rows, 1, columns, 1) * len(PARTS)
    places = cells + parts.reshape(count, rows, 8, columns, 8)
    shares = np.bincount(places.ravel(), minlength=count * rows * columns * len(PARTS)) / 64
    return torch.from_numpy(shares.reshape(count, rows, columns, len(PARTS)).astype(np.float32)).permute(0, 3, 1, 2)


class Lessons:
    """Draws examples of one size with their captions; makes latents, token ids and weights of them."""

    def __init__(self, archive: Archive, tokenizer: CLIPTokenizer, size: int, empty: float = EMPTY_PROMPTS) -> None:
        """Draw `size` examples at a time, a share `empty` of them with an empty prompt."""
        self.archive, self.tokenizer, self.size, self.empty = archive, tokenizer, size, empty

    def examples(self, rng: np.random.Generator) -> list[Example]:
        """Draw a batch."""
        return [self.archive[i] for i in self.archive.draw(rng, self.size)]

    def tokens(self, examples: list[Example], rng: np.random.Generator) -> Tensor:
        """Return (B, tokens) ids of captions in varying words."""
        return tokenize(self.tokenizer, ["" if rng.random() < self.empty else e.caption(rng) for e in examples])

    def make(self, rng: np.random.Generator) -> tuple[Tensor, ...]:
        """Return latents, token ids, weights and shares of parts of a batch."""
        examples = self.examples(rng)
        return latents_of(examples), self.tokens(examples, rng), importance(examples), shares_of_parts(examples)


def tokenize(tokenizer: CLIPTokenizer, captions: list[str]) -> Tensor:
    """Return (B, tokens) ids, as many as the tokenizer allows."""
    batch = tokenizer(captions, padding="max_length", truncation=True, return_tensors="pt")
    return batch.input_ids


def latents_of(examples: list[Example]) -> Tensor:
    """Return the (B, C, h, w) float32 latents of examples."""
    return torch.from_numpy(np.stack([e.latent for e in examples])).float()


def importance(examples: list[Example]) -> Tensor:
    """Return (B, 1, h, w) weights of the loss with mean 1: more on people, most on heads."""
    parts = torch.from_numpy(np.stack([e.view.parts for e in examples]))
    figure = torch.isin(parts, torch.tensor(FIGURE_PARTS, dtype=parts.dtype)).float()
    head = ((parts == PART["face"]) | (parts == PART["hair"])).float()
    weight = 1 + (FIGURE_WEIGHT - 1) * figure + (HEAD_WEIGHT - FIGURE_WEIGHT) * head
    weight = functional.avg_pool2d(weight[:, None], 8)
    return weight / weight.mean((1, 2, 3), keepdim=True)


@torch.no_grad()
def start_from(folder: Path, unet: UNet2DConditionModel, text: CLIPTextModel, tokenizer: CLIPTokenizer) -> None:
    """Start from an older base: weights of the same name, and the embeddings of words that both know."""
    borrow(unet, UNet2DConditionModel.from_pretrained(folder / "unet", dtype=torch.float32).state_dict())
    older, words = (
        CLIPTextModel.from_pretrained(folder / "text_encoder", dtype=torch.float32),
        CLIPTokenizer.from_pretrained(folder / "tokenizer"),
    )
    name = next(n for n, _ in text.named_parameters() if n.endswith("token_embedding.weight"))
    table = text.get_parameter(name).clone()
    known, source = words.get_vocab(), older.get_parameter(name)
    for word, row in tokenizer.get_vocab().items():
        if word in known:
            table[row] = source[known[word]]
    borrow(text, older.state_dict())
    text.get_parameter(name).copy_(table)


def make_networks(
    out: Path, channels: int, start: Path | None, compute: Compute
) -> tuple[CLIPTokenizer, UNet2DConditionModel, CLIPTextModel, PartsReader]:
    """Write the tokenizer to `out`, and return it with a UNet, a text encoder and a reader of parts that are ready to train.

    Args:
        out: Folder of the training.
        channels: Of the latents.
        start: Older base to start from.
        compute: Where they train.
    """
    if rank() == 0:
        write_tokenizer(out / "tokenizer", vocabulary(), MAX_TOKENS)
    if torch.distributed.is_initialized():
        torch.distributed.barrier()
    tokenizer = CLIPTokenizer.from_pretrained(out / "tokenizer")
    torch.manual_seed(0)
    unet, text = make_unet(channels), make_text_encoder(tokenizer)
    if start:
        start_from(start, unet, text, tokenizer)
    unet, text = compute.prepare(unet).train(), text.to(compute.device).train()
    return tokenizer, unet, text, PartsReader(unet).to(compute.device)


def sample_sheet(pipeline: StableDiffusionPipeline, path: Path, count: int) -> None:
    """Generate pictures for held-out captions and write them above the renders they describe."""
    examples = [make_example(seed) for seed in range(count)]
    captions = [e.caption() for e in examples]
    generators = [torch.Generator().manual_seed(seed) for seed in range(count)]
    made = pipeline(
        captions, num_inference_steps=SHEET_STEPS, guidance_scale=3.0, generator=generators, output_type="np"
    ).images
    save_sheet(path, [(made * 255).astype(np.uint8), [e.view.rgb for e in examples]])
    path.with_suffix(".txt").write_text("\n".join(captions) + "\n")


def train(
    data: Path,
    vae_folder: Path,
    out: Path,
    plan: Plan,
    *,
    start: Path | None = None,
    batch: int = 16,
    weighting: Weighting = "v",
    compute: Compute = CPU,
) -> dict[str, float]:
    """Train UNet and text encoder; write a diffusers folder to `out / "pipeline"` at each checkpoint.

    Args:
        data: Folder of encoded shards.
        vae_folder: The autoencoder that encoded them.
        out: Folder of results and the checkpoint.
        plan: Time budget.
        start: Older base to start from.
        batch: Pictures a step and process.
        weighting: How timesteps count: as velocities do, or min-SNR.
        compute: Where.

    Returns:
        Steps, CPU minutes and the mean loss on 64 pictures that no training sees, always weighted as velocities.
    """
    vae = AutoencoderKL.from_pretrained(vae_folder)
    channels = vae.config.latent_channels
    tokenizer, unet, text, reader = make_networks(out, channels, start, compute)
    trained = [*unet.parameters(), *text.parameters(), *reader.parameters()]
    loop = Loop(out, {"unet": unet, "text": text}, [(trained, RATE)], plan)
    archive = Archive(data, latents=f"latents-{channels}")
    lessons, diffusion, figures = Lessons(archive, tokenizer, batch * compute.batches), Diffusion(), {}
    drawn = compute.stream(lessons.make, rank(), loop.step, 4)
    snr = diffusion.signal**2 / (diffusion.noise**2).clamp_min(1e-8)
    if rank() == 0:
        counts = [sum(p.numel() for p in m.parameters()) / 1e6 for m in (unet, text)]
        logger.info("%d pictures, UNet %.2fM, text %.2fM, %d words", len(archive), *counts, len(vocabulary()))

    def loss(step: int) -> Tensor:
        if step % 250 == 249:
            archive.refresh()
        latents, tokens, weight, shares = next(drawn)
        noisy, t, target = diffusion.noised(latents)
        with compute.autocast():
            predicted = unet(noisy, t, text(tokens).last_hidden_state).sample
        error = functional.mse_loss(predicted.float(), target, reduction="none") * weight
        if weighting == "min-snr":
            factor = (snr.clamp_max(SNR_CAP) / (snr + 1))[t.cpu()] + 0.05
            error = error * compute.put(factor).view(-1, 1, 1, 1)
        return error.mean() + PARTS_WEIGHT * reader(shares)

    def report() -> None:
        averaged = {name: module.cpu() for name, module in loop.averaged().items()}
        figures.update(
            held_out=held_out_loss(averaged["unet"], averaged["text"], vae, tokenizer, HELD_OUT), step=loop.step
        )
        logger.info("base: step %d, held-out loss %.4f", loop.step, figures["held_out"])
        pipeline = make_pipeline(averaged["unet"], averaged["text"], tokenizer, vae)
        sample_sheet(pipeline, out / "sheets" / f"{round(loop.elapsed / 60):04d}.png", SHEET)
        save_pipeline(pipeline, out / "pipeline")
        vae.float()

    loop.run(loss, report)
    return {**figures, "minutes": round(loop.elapsed / 60, 1)}


@torch.no_grad()
def held_out_loss(
    unet: UNet2DConditionModel, text: CLIPTextModel, vae: AutoencoderKL, tokenizer: CLIPTokenizer, count: int
) -> float:
    """Return the mean squared error of velocities on held-out scenes, at four fixed noise levels each."""
    from controlnext.starter.remake.latents import encode_views

    examples = [make_example(seed) for seed in range(count)]
    latents = torch.from_numpy(encode_views(vae.float(), np.stack([e.view.rgb for e in examples]))).float()
    diffusion, generator, losses = Diffusion(), torch.Generator().manual_seed(0), []
    states = text(tokenize(tokenizer, [e.caption() for e in examples])).last_hidden_state
    for level in (200, 450, 700, 950):
        noise = torch.randn(latents.shape, generator=generator)
        a, b = diffusion.signal[level], diffusion.noise[level]
        predicted = unet(a * latents + b * noise, torch.tensor(level), states).sample
        losses.append(float((predicted - (a * noise - b * latents)).square().mean()))
    return float(np.mean(losses))
