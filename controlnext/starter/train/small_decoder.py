"""Train the tail of the small decoder, which draws live pictures and previews, on features of the bundled autoencoder."""

import copy
import logging
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor

from controlnext.engine.small_decoder import DecoderTail, SmallDecoder
from controlnext.starter.train.dataset import Shards, make_samples, to_tensor
from controlnext.starter.train.loop import Loop, Plan
from controlnext.starter.train.vae import PART_WEIGHTS, reconstruction_loss
from controlnext.starter.world.sheets import save_sheet

logger = logging.getLogger(__name__)
NOISE = 0.03
"""Deviation of the noise on latents, which makes the decoder forgiving of sampled ones."""

PICTURES = 2048
"""Pictures whose features are kept in memory, 1 MB each."""

HELD_OUT = 32
"""Held-out pictures that are measured."""

SHOWN = 8
"""Held-out pictures on the sheet."""


class TailPictures:
    """Features of whole pictures, made once, to learn from."""

    @torch.no_grad()
    def __init__(self, shards: Shards, decoder: SmallDecoder, vae: AutoencoderKL, count: int = PICTURES) -> None:
        """Compute the features of `count` pictures from all over the shards."""
        self.rng = np.random.default_rng(torch.initial_seed() % 2**32)
        chosen = np.linspace(0, len(shards) - 1, min(count, len(shards))).astype(int)
        self.pictures = [shards[index].picture for index in chosen]
        self.features = []
        for index in chosen:
            latent = torch.from_numpy(shards[index].latent[None].astype(np.float32)) / vae.config.scaling_factor
            noisy = latent + NOISE * torch.randn_like(latent)
            self.features.append(decoder.features(vae.post_quant_conv(noisy))[0].half())

    def batch(self, size: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return features (B, C, h, w), pictures (B, 3, 4 h, 4 w) and weights of their pixels (B, 1, 4 h, 4 w)."""
        chosen = self.rng.integers(0, len(self.pictures), size)
        pictures = [self.pictures[index] for index in chosen]
        weight = np.stack([PART_WEIGHTS[picture.parts] ** 0.5 for picture in pictures])
        return (
            torch.stack([self.features[index] for index in chosen])
            .float()
            .contiguous(memory_format=torch.channels_last),
            to_tensor(np.stack([picture.rgb for picture in pictures])),
            torch.from_numpy(weight)[:, None],
        )


def decibels(made: Tensor, wanted: Tensor) -> float:
    """Return the mean PSNR of (B, 3, H, W) pictures in [-1, 1], in dB."""
    errors = ((made.clamp(-1, 1) - wanted) / 2) ** 2
    return float((-10 * torch.log10(errors.mean((1, 2, 3)))).mean())


class HeldOut:
    """Held-out renders, heads and busts among them, and what the autoencoder makes of them."""

    @torch.no_grad()
    def __init__(self, vae: AutoencoderKL, count: int) -> None:
        """Render, encode and decode `count` whole pictures."""
        rgb = np.stack([make_samples(seed, 1, close=0.4)[0].picture.rgb for seed in range(count)])
        self.wanted = to_tensor(rgb)
        latents = [vae.encode(x).latent_dist.mean for x in self.wanted.split(4)]
        self.latents = torch.cat([vae.post_quant_conv(z) for z in latents])
        self.large = torch.cat([vae.decoder(z) for z in self.latents.split(4)])

    @torch.no_grad()
    def measure(self, decoder: SmallDecoder) -> tuple[float, float, Tensor]:
        """Return PSNR of the small and of the large decoder in dB, and the small one's pictures."""
        made = torch.cat([decoder(z) for z in self.latents.split(4)])
        return decibels(made, self.wanted), decibels(self.large, self.wanted), made


def train(data: Path, autoencoder: Path, out: Path, plan: Plan, *, start: Path | None, batch: int = 3) -> None:
    """Train on the shards of `data`, which hold latents, and write the tail to `out` in float16.

    Args:
        data: Folder of encoded shards.
        autoencoder: Whose latents they are; the first half of its decoder is used, and all of it is compared with.
        out: Folder of the result; also holds the checkpoint.
        plan: Time budget.
        start: Tail to start from, or None for a new one.
        batch: Pictures per step.
    """
    vae = AutoencoderKL.from_pretrained(autoencoder).eval().to(memory_format=torch.channels_last)
    tail = DecoderTail.from_pretrained(start) if start else DecoderTail.of(vae)
    held_out, pictures = HeldOut(vae, HELD_OUT), TailPictures(Shards(data), SmallDecoder(vae, tail), vae)
    tail = tail.to(memory_format=torch.channels_last).train()
    blocks = list(tail.resnets.parameters())  # learned already, as part of the autoencoder
    rest = [weight for name, weight in tail.named_parameters() if not name.startswith("resnets.")]
    loop = Loop(out, {"tail": tail}, [(blocks, 4e-4), (rest, 1e-3 if start else 3e-3)], plan)

    def loss(_: int) -> Tensor:
        features, wanted, weight = pictures.batch(batch)
        return reconstruction_loss(tail(features), wanted, weight)

    def report() -> None:
        averaged = loop.averaged()["tail"]
        small, large, made = held_out.measure(SmallDecoder(vae, averaged))
        logger.info("held-out PSNR %.2f dB, of the autoencoder's own decoder %.2f dB", small, large)
        copy.deepcopy(averaged).half().save_pretrained(out)
        rows = [
            ((x[:SHOWN].clamp(-1, 1) + 1) * 127.5).permute(0, 2, 3, 1).numpy().astype(np.uint8)
            for x in (held_out.wanted, held_out.large, made)
        ]
        save_sheet(out / "sheet.png", rows)

    loop.run(loss, report)
