"""Train the autoencoder on crops of scenes; later its decoder alone, with the reader's features and a patch discriminator."""

from __future__ import annotations

import copy
import logging
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn
from torch.nn import functional

from controlnext.starter.remake.compute import CPU, Compute
from controlnext.starter.remake.networks import LATENT_CHANNELS, borrow_vae, level, make_vae
from controlnext.starter.remake.reader import features, load_reader
from controlnext.starter.remake.redrawn import Redrawn
from controlnext.starter.scenes.palette import FIGURE_PARTS, PART, PARTS
from controlnext.starter.scenes.shards import Archive, Example, make_example
from controlnext.starter.train.dataset import to_tensor
from controlnext.starter.train.loop import Loop, Plan, rank
from controlnext.starter.train.vae import reconstruction_loss
from controlnext.starter.world.sheets import save_sheet
from controlnext.training.quick import cpu_autocast

logger = logging.getLogger(__name__)
CROP = 128
HELD_OUT = 16
"""Number of pictures that a report measures."""

_WEIGHT = {
    "face": 7,
    "limb": 5,
    "hair": 4,
    "shirt": 3,
    "trousers": 3,
    "shoes": 4,
    "hat": 4,
    "coat": 3,
    "glasses": 5,
    "animal": 3,
    "thing": 2,
}
DECODER_RATE = 2e-4
"""Peak learning rate of the decoder alone."""

STAY = 0.1
"""Weight of the squared distance of latents, in their standard deviations, from the older encoder's.

What was trained on the older latents, the bundled UNet and adapters, is then a start for the new ones.
"""

PART_WEIGHTS = np.array([_WEIGHT.get(name, 1) for name in PARTS], np.float32)
"""Sky and ground fill most of a picture, but faces and hands are what a person looks at."""


def crop_window(rng: np.random.Generator, parts: np.ndarray, size: int = CROP) -> tuple[slice, slice]:
    """Choose a window of `size` pixels on a grid of 8, three times in four around a point of a person."""
    height, width = parts.shape
    y, x = rng.integers(0, height - size + 1), rng.integers(0, width - size + 1)
    if rng.random() < 0.75:
        wanted = (
            np.argwhere(parts == PART["face"]) if rng.random() < 0.5 else np.argwhere(np.isin(parts, FIGURE_PARTS))
        )
        if len(wanted):
            y, x = wanted[rng.integers(len(wanted))] - size // 2 + rng.integers(-24, 25, 2)
    y, x = int(np.clip(y, 0, height - size)) // 8 * 8, int(np.clip(x, 0, width - size)) // 8 * 8
    return slice(y, y + size), slice(x, x + size)


def draw_crops(rng: np.random.Generator, archive: Archive, count: int) -> tuple[Tensor, Tensor]:
    """Return `count` crops (B, 3, CROP, CROP) in [-1, 1] and their weights (B, 1, CROP, CROP), float32."""
    pictures, weights = [], []
    for index in rng.integers(0, len(archive), count):
        parts = archive.array("parts", int(index))
        window = crop_window(rng, parts)
        rgb, weight = archive.array("rgb", int(index))[window], PART_WEIGHTS[parts[window]]
        if rng.random() < 0.5:
            rgb, weight = rgb[:, ::-1], weight[:, ::-1]
        pictures.append(rgb)
        weights.append(weight)
    return to_tensor(np.stack(pictures)), torch.from_numpy(np.stack(weights))[:, None]


def held_out(count: int) -> list[Example]:
    """Render the first `count` held-out scenes, square."""
    return [make_example(seed) for seed in range(count)]


def head_box(example: Example) -> tuple[slice, slice] | None:
    """Return the window around the largest head of a view, or None where no face of 16 pixels is seen."""
    rows, columns = np.nonzero((example.view.parts == PART["face"]) & (example.view.owner == 0))
    if len(rows) < 200:
        return None
    return slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1)


@torch.no_grad()
def reconstruct(vae: AutoencoderKL, rgb: np.ndarray) -> np.ndarray:
    """Encode and decode a picture (H, W, 3) uint8."""
    with cpu_autocast():  # its rounding is 20 dB below what is measured
        result = vae.decode(vae.encode(to_tensor(rgb[None])).latent_dist.mean).sample
    pixels = (result[0].float().clamp(-1, 1) + 1) * 127.5
    return (pixels + 0.5).permute(1, 2, 0).numpy().astype(np.uint8)


def decibels(example: Example, rgb: np.ndarray) -> tuple[float, float | None]:
    """Return the PSNR in dB of a picture (H, W, 3) uint8 of a view, and of its largest head, if there is one."""
    error = np.square((rgb.astype(np.float64) - example.view.rgb) / 255).mean(2)
    box = head_box(example)
    whole, head = (-10 * float(np.log10(max(part.mean(), 1e-10))) for part in (error, error[box or slice(None)]))
    return whole, head if box else None


def fidelity(vae: AutoencoderKL, examples: list[Example]) -> tuple[dict[str, float], list[list[np.ndarray]]]:
    """Measure an autoencoder: PSNR in dB over whole pictures and over heads, and rows of pictures for a contact sheet."""
    pictures = [reconstruct(vae, e.view.rgb) for e in examples]
    whole, found = zip(*(decibels(e, rgb) for e, rgb in zip(examples, pictures, strict=True)), strict=True)
    heads = [value for value in found if value is not None]
    rows = [[e.view.rgb, rgb] for e, rgb in zip(examples[:4], pictures, strict=False)]
    return {"psnr": float(np.mean(whole)), "heads": float(np.mean(heads)) if heads else float("nan")}, rows


@torch.no_grad()
def _latents(vae: AutoencoderKL, examples: list[Example]) -> Tensor:
    """Return the latents of examples, float32."""
    with cpu_autocast():
        return torch.cat([vae.encode(to_tensor(e.view.rgb[None])).latent_dist.mean for e in examples]).float()


def train(
    data: Path,
    out: Path,
    plan: Plan,
    *,
    start: Path | None = None,
    channels: int = LATENT_CHANNELS,
    rate: float = 4e-4,
    batch: int = 4,
    compute: Compute = CPU,
) -> dict[str, float]:
    """Train an autoencoder on the shards of `data`; write it to `out` at each checkpoint.

    Args:
        data: Folder of shards.
        out: Folder of the result and the checkpoint.
        plan: Time budget.
        start: Older autoencoder to start from.
        channels: Latent channels.
        rate: Peak learning rate.
        batch: Crops a step and process.
        compute: Where.

    Returns:
        PSNR in dB of whole held-out pictures and of heads.
    """
    torch.manual_seed(0)
    vae, few = make_vae(channels), channels
    if start:
        few = borrow_vae(vae, start)
    older = compute.prepare(copy.deepcopy(vae)).eval().requires_grad_(False) if start else None
    vae = compute.prepare(vae).train()
    archive = Archive(data)
    loop = Loop(out, {"vae": vae}, [(list(vae.parameters()), rate)], plan)
    drawn = compute.stream(lambda rng: draw_crops(rng, archive, batch * compute.batches), rank(), loop.step, 1)
    examples, figures = held_out(HELD_OUT), {}

    def loss(step: int) -> Tensor:
        if step % 100 == 99:
            archive.refresh()
        target, weight = next(drawn)
        with compute.autocast():
            posterior = vae.encode(target).latent_dist
            result = vae.decode(posterior.sample()).sample
            made = posterior.mean[:, :few].float()
            known = older.encode(target).latent_dist.mean[:, :few].float() if older else made.detach()
        value = reconstruction_loss(result, target, weight) + STAY * functional.mse_loss(made, known) / known.var()
        return value + 1e-5 * posterior.kl().float().mean() / channels

    def report() -> None:
        averaged = loop.averaged()["vae"].cpu()
        found, rows = fidelity(averaged, examples)
        figures.update(found, step=loop.step, minutes=round(loop.elapsed / 60, 1))
        logger.info(
            "autoencoder of %d channels: held-out PSNR %.2f dB, heads %.2f dB", channels, found["psnr"], found["heads"]
        )
        level(averaged, _latents(averaged, examples[:8]), few)
        averaged.register_to_config(scaling_factor=round(float(1 / _latents(averaged, examples[:8]).std()), 4))
        averaged.save_pretrained(out)
        save_sheet(out / "sheet.png", rows)

    loop.run(loss, report)
    return figures


def make_critic() -> nn.Module:
    """Return the untrained patch discriminator: (B, 3, H, W) in [-1, 1] to logits (B, 1, H / 8, W / 8)."""
    widths = (3, 24, 48, 96)
    layers: list[nn.Module] = []
    for number, (a, b) in enumerate(pairwise(widths)):
        layers += [nn.Conv2d(a, b, 4, 2, 1), *([nn.GroupNorm(8, b)] if number else []), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, 3, 1, 1))


class _Adversary:
    """Trains the discriminator alongside, with hinge losses; its weights and optimiser are saved with `out`."""

    def __init__(self, out: Path, compute: Compute) -> None:
        torch.manual_seed(1)
        self.compute, self.network, self.path = compute, compute.prepare(make_critic()), out / "critic.pt"
        self.optimizer = torch.optim.AdamW(self.network.parameters(), 2e-4, betas=(0.5, 0.9))
        if self.path.exists():
            state = torch.load(self.path, weights_only=True, map_location="cpu")
            self.network.load_state_dict(state["network"])
            self.optimizer.load_state_dict(state["optimizer"])

    def learn(self, real: Tensor, made: Tensor) -> None:
        with self.compute.autocast():
            value = (
                functional.relu(1 - self.network(real)).float().mean()
                + functional.relu(1 + self.network(made)).float().mean()
            )
        self.optimizer.zero_grad()
        value.backward()
        self.optimizer.step()

    def judge(self, made: Tensor) -> Tensor:
        self.network.requires_grad_(False)
        with self.compute.autocast():
            value = -self.network(made).float().mean()
        self.network.requires_grad_(True)
        return value

    def save(self) -> None:
        torch.save({"network": self.network.state_dict(), "optimizer": self.optimizer.state_dict()}, self.path)


def sharpen(
    data: Path,
    encoder: Path,
    reader: Path,
    out: Path,
    plan: Plan,
    *,
    base: Path | None = None,
    batch: int = 4,
    compute: Compute = CPU,
) -> dict[str, float]:
    """Train the decoder alone, so that latents stay valid: L1, the reader's features, and from a fifth of the time a critic.

    Args:
        data: Folder of shards.
        encoder: The autoencoder whose latents the base knows.
        reader: The reader's weights.
        out: Folder of the result and the checkpoints.
        plan: Time budget.
        base: Diffusers folder of a base that draws half of the latents again; None takes all as they were encoded.
        batch: Crops a step and process.
        compute: Where.

    Returns:
        PSNR in dB of whole held-out pictures and of heads.
    """
    vae = compute.prepare(AutoencoderKL.from_pretrained(encoder, dtype=torch.float32)).train()
    vae.encoder.requires_grad_(False)
    vae.quant_conv.requires_grad_(False)
    archive, eye = Archive(data), compute.prepare(load_reader(reader))
    loop = Loop(out, {"vae": vae}, [([p for p in vae.parameters() if p.requires_grad], DECODER_RATE)], plan)
    adversary, redrawn = _Adversary(out, compute), Redrawn(base, vae, compute) if base else None
    drawn = compute.stream(lambda rng: draw_crops(rng, archive, batch * compute.batches), rank(), loop.step, 2)
    examples, figures = held_out(HELD_OUT), {}

    def loss(step: int) -> Tensor:
        target, weight = next(drawn)
        with compute.autocast():
            with torch.no_grad():
                latent = vae.encode(target).latent_dist.mean
                known = features(eye, target)
            latent = redrawn(latent) if redrawn else latent
            # A little noise makes the decoder forgiving of latents that were sampled rather than encoded.
            result = vae.decode(latent + 0.04 * torch.randn_like(latent)).sample
        result = result.float().contiguous(memory_format=torch.channels_last)
        value = reconstruction_loss(result, target, weight)
        with compute.autocast():
            seen = features(eye, result)
        value = value + 0.6 * sum(functional.l1_loss(a.float(), b.float()) for a, b in zip(seen, known, strict=True))
        if loop.elapsed > 0.2 * plan.minutes * 60:
            adversary.learn(target, result.detach())
            value = value + 0.05 * adversary.judge(result)
        return value

    def report() -> None:
        averaged = loop.averaged()["vae"].cpu()
        found, rows = fidelity(averaged, examples)
        figures.update(found, step=loop.step, minutes=round(loop.elapsed / 60, 1))
        logger.info("decoder: held-out PSNR %.2f dB, heads %.2f dB", found["psnr"], found["heads"])
        averaged.save_pretrained(out)
        adversary.save()
        save_sheet(out / "sheet.png", rows)

    loop.run(loss, report)
    return figures
