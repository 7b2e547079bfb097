"""Latents of all shards: encoded once by the frozen encoder, read by every training of the base and its adapters."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL

from controlnext.device import quick_dtype
from controlnext.starter.remake.compute import CPU, Compute
from controlnext.starter.train.dataset import to_tensor
from controlnext.starter.train.loop import processes, rank

logger = logging.getLogger(__name__)


def latents_name(vae: AutoencoderKL) -> str:
    """Return the name under which shards keep the latents of an autoencoder."""
    return f"latents-{vae.config.latent_channels}"


@torch.no_grad()
def encode_views(vae: AutoencoderKL, rgb: np.ndarray) -> np.ndarray:
    """Encode (B, H, W, 3) uint8 to (B, C, H / 8, W / 8) float16 latents times the scaling factor."""
    mean = vae.encode(to_tensor(rgb).to(vae.device, vae.dtype)).latent_dist.mean.float()
    return (mean * vae.config.scaling_factor).cpu().numpy().astype(np.float16)


def encode_shards(data: Path, folder: Path, compute: Compute = CPU) -> int:
    """Add the latents of the autoencoder in `folder` to the shards of `data` that lack them; return how many did.

    Processes that run together share the shards.
    """
    dtype = quick_dtype() if compute.device == "cpu" else torch.bfloat16
    vae = AutoencoderKL.from_pretrained(folder, dtype=dtype).eval().to(compute.device)
    name, count, size = latents_name(vae), 0, 8 * compute.batches
    for path in sorted(data.glob("shard-?????"))[rank() :: processes()]:
        target = path / f"{name}.npy"
        if target.exists():
            continue
        rgb = np.load(path / "rgb.npy", mmap_mode="r")
        latents = np.concatenate([encode_views(vae, np.array(rgb[i : i + size])) for i in range(0, len(rgb), size)])
        part = path / f"{name}.part.npy"
        np.save(part, latents)
        part.rename(target)
        count += 1
        logger.info("%s: latents", path.name)
    return count
