"""Train the video starter's autoencoder: the image starter's latents, and a decoder that sees several frames at once."""

import logging
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor

from controlnext.starter.clips import CELL, Clip, Clips
from controlnext.starter.dataset import to_tensor
from controlnext.starter.loop import Loop, Plan
from controlnext.starter.motion import render_clip, sample_clip
from controlnext.starter.sheets import save_sheet
from controlnext.starter.train_vae import reconstruction_loss
from controlnext.starter.video_networks import make_video_vae
from controlnext.training.quick import quicken

logger = logging.getLogger(__name__)
FRAMES, CROP = 4, 96
FIGURE_WEIGHT = 4.0
# How much the encoder's latents must stay those of the image starter, on which the UNet was trained.
LATENT_WEIGHT = 2.0


def _window(rng: np.random.Generator, clip: Clip) -> tuple[np.ndarray, np.ndarray]:
    """Cut FRAMES frames of CROP pixels a side, mostly around the figure: (FRAMES, CROP, CROP, 3) and weights."""
    first = int(rng.integers(0, len(clip.rgb) - FRAMES + 1))
    figure = np.argwhere(clip.figure[first] > 128) if rng.random() < 0.75 else np.empty((0, 2))
    cells, span = clip.figure.shape[1], CROP // CELL
    middle = figure[rng.integers(len(figure))] if len(figure) else rng.integers(0, cells, 2)
    y, x = (int(np.clip(v - span // 2, 0, cells - span)) for v in middle)
    rows, columns = slice(y * CELL, y * CELL + CROP), slice(x * CELL, x * CELL + CROP)
    shares = clip.figure[first : first + FRAMES, y : y + span, x : x + span].astype(np.float32) / 255
    weight = 1 + (FIGURE_WEIGHT - 1) * shares.repeat(CELL, 1).repeat(CELL, 2)
    return np.array(clip.rgb[first : first + FRAMES, rows, columns]), weight


def train(clips: Path, base: Path, out: Path, plan: Plan, *, rate: float = 4e-4, batch: int = 2) -> None:
    """Train on the clips of a folder, from the image starter's autoencoder in `base`; write it to `out / "vae"`."""
    teacher = AutoencoderKL.from_pretrained(base).eval().requires_grad_(False).to(memory_format=torch.channels_last)
    scale = teacher.config.scaling_factor
    vae = quicken(make_video_vae(teacher)).train()
    loop = Loop(out, {"vae": vae}, [(list(vae.parameters()), rate)], plan)
    moving, rng = Clips(clips), np.random.default_rng(torch.initial_seed() % 2**32)
    stages = [sample_clip(seed, FRAMES) for seed in range(6)]
    held_out = [np.stack([p.rgb for p in render_clip(frames, [look])[0]]) for frames, look in stages]

    def loss(step: int) -> Tensor:
        drawn = [_window(rng, moving[int(i)]) for i in rng.integers(0, len(moving), batch)]
        target = to_tensor(np.concatenate([rgb for rgb, _ in drawn]))
        weight = torch.from_numpy(np.concatenate([w for _, w in drawn]))[:, None]
        with torch.autocast("cpu", torch.bfloat16):
            with torch.no_grad():
                wanted = teacher.encode(target).latent_dist.mean.float()
            latents = vae.encode(target).latent_dist.mean
            # The decoder learns from the teacher's latents, a little noisy as generated ones are.
            result = vae.decode(wanted + 0.03 * torch.randn_like(wanted), num_frames=FRAMES).sample
        far = ((latents.float() - wanted) * scale).square().mean()
        return reconstruction_loss(result, target, weight) + LATENT_WEIGHT * far

    def report() -> None:
        averaged = loop.averaged()["vae"]
        rows, values, apart = [], [], []
        for rgb in held_out:
            with torch.no_grad():
                x = to_tensor(rgb)
                latents = averaged.encode(x).latent_dist.mean
                apart.append(((latents - teacher.encode(x).latent_dist.mean) * scale).square().mean().item())
                result = averaged.decode(latents, num_frames=FRAMES).sample.clamp(-1, 1)
            values.append((-10 * torch.log10(((result - x) / 2).square().mean())).item())
            rows += [rgb, ((result + 1) * 127.5).permute(0, 2, 3, 1).numpy().astype(np.uint8)]
        logger.info("held out: PSNR %.2f dB, latents apart by %.4f squared", np.mean(values), np.mean(apart))
        averaged.save_pretrained(out / "vae")
        save_sheet(out / "sheet.png", rows)

    loop.run(loss, report)
