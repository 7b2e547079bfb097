"""Train the starter's autoencoder on crops of rendered pictures, or only its decoder on finished latents."""

import logging
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor

from controlnext.starter.train.dataset import Shards, make_samples, to_tensor
from controlnext.starter.train.loop import Loop, Plan
from controlnext.starter.train.networks import make_vae
from controlnext.starter.world.sheets import save_sheet
from controlnext.starter.world.world import PARTS, SIZE
from controlnext.training.quick import cpu_autocast, quicken

logger = logging.getLogger(__name__)
CROP = 128
# Sky and ground fill most of a picture but faces and hands are what a person looks at.
PART_WEIGHTS = np.array([1, 1, 8, 7, 4, 3, 3, 4, 4, 2, 2, 3, 2], np.float32)
assert len(PART_WEIGHTS) == len(PARTS)


def crop_window(rng: np.random.Generator, parts: np.ndarray) -> tuple[slice, slice]:
    """Choose a window of `CROP` pixels on a grid of 8, three times in four around a point of the figure."""
    figure = np.argwhere((parts >= 2) & (parts <= 8)) if rng.random() < 0.75 else np.empty((0, 2))
    if len(figure) and rng.random() < 0.4:
        faces = np.argwhere(parts == 2)
        figure = faces if len(faces) else figure
    y, x = figure[rng.integers(len(figure))] - CROP // 2 if len(figure) else rng.integers(0, SIZE - CROP + 1, 2)
    y, x = (int(np.clip(v + rng.integers(-24, 25), 0, SIZE - CROP)) // 8 * 8 for v in (y, x))
    return slice(y, y + CROP), slice(x, x + CROP)


def _batch(rng: np.random.Generator, shards: Shards, size: int) -> tuple[Tensor, Tensor]:
    pictures, weights = [], []
    for index in rng.integers(0, len(shards), size):
        picture = shards[index].picture
        window = crop_window(rng, picture.parts)
        pictures.append(picture.rgb[window])
        weights.append(PART_WEIGHTS[picture.parts[window]])
    return to_tensor(np.stack(pictures)), torch.from_numpy(np.stack(weights))[:, None]


def reconstruction_loss(result: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Return the weighted loss of (B, 3, H, W) pictures in [-1, 1]: absolute, squared and gradient differences."""
    error = result.float() - target
    across, down = error[..., 1:] - error[..., :-1], error[..., 1:, :] - error[..., :-1, :]
    loss = (weight * (error.abs() + 2 * error * error)).mean()
    return loss + (weight[..., 1:] * across.abs()).mean() + (weight[..., 1:, :] * down.abs()).mean()


def psnr(vae: AutoencoderKL, count: int = 16) -> tuple[float, list[np.ndarray]]:
    """Return the mean PSNR in dB over held-out whole pictures, and rows of pictures for a contact sheet."""
    rgb = np.stack([make_samples(seed, 1)[0].picture.rgb for seed in range(count)])
    values, rows = [], []
    with torch.no_grad():
        for i in range(0, count, 4):
            x = to_tensor(rgb[i : i + 4])
            result = vae.decode(vae.encode(x).latent_dist.mean).sample.clamp(-1, 1)
            values += (-10 * torch.log10((((result - x) / 2) ** 2).mean((1, 2, 3)))).tolist()
            rows += [rgb[i : i + 4], ((result + 1) * 127.5).permute(0, 2, 3, 1).numpy().astype(np.uint8)]
    return float(np.mean(values)), rows


def latent_scale(vae: AutoencoderKL, shards: Shards, count: int = 64) -> float:
    """Return one over the standard deviation of the latents of `count` pictures: the pipeline's scaling factor."""
    step = max(1, len(shards) // count)
    rgb = [np.array(shards[i].picture.rgb) for i in range(0, len(shards), step)]
    with torch.no_grad():
        latents = [vae.encode(to_tensor(np.stack(rgb[i : i + 4]))).latent_dist.mean for i in range(0, len(rgb), 4)]
    return float(1 / torch.cat(latents).std())


def train(
    data: Path, out: Path, plan: Plan, *, start: Path | None, decoder_only: bool, rate: float, batch: int = 8
) -> None:
    """Train an autoencoder on the shards of `data` and write it to `out`.

    Args:
        data: Folder of shards.
        out: Folder of the result; also holds the checkpoint.
        plan: Time budget.
        start: Autoencoder to start from, or None for a new one.
        decoder_only: Keep the encoder, so that latents stay valid.
        rate: Peak learning rate.
        batch: Crops per step.
    """
    vae = AutoencoderKL.from_pretrained(start) if start else make_vae()
    vae = quicken(vae).train()
    if decoder_only:
        vae.encoder.requires_grad_(False)
        vae.quant_conv.requires_grad_(False)
    shards = Shards(data, latents=False)
    rng = np.random.default_rng(torch.initial_seed() % 2**32)
    loop = Loop(out, {"vae": vae}, [([p for p in vae.parameters() if p.requires_grad], rate)], plan)

    def loss(step: int) -> Tensor:
        if step % 200 == 199:
            shards.refresh()
        target, weight = _batch(rng, shards, batch)
        with cpu_autocast():
            with torch.set_grad_enabled(not decoder_only):
                posterior = vae.encode(target).latent_dist
                # A little noise makes the decoder forgiving of latents that were sampled rather than encoded.
                latent = (
                    posterior.sample()
                    if not decoder_only
                    else posterior.mean + 0.03 * torch.randn_like(posterior.mean)
                )
            result = vae.decode(latent).sample
        value = reconstruction_loss(result, target, weight)
        return value if decoder_only else value + 1e-5 * posterior.kl().float().mean() / vae.config.latent_channels

    def report() -> None:
        averaged = loop.averaged()["vae"]
        decibels, rows = psnr(averaged)
        logger.info("held-out PSNR %.2f dB", decibels)
        if not decoder_only:
            averaged.register_to_config(scaling_factor=round(latent_scale(averaged, shards), 4))
        averaged.save_pretrained(out)
        save_sheet(out / "sheet.png", rows)

    loop.run(loss, report)
