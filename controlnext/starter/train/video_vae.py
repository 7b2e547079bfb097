"""Make the video starter's autoencoder from the image starter's: by least squares on some pictures, without training."""

import logging
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, AutoencoderKLTemporalDecoder

from controlnext.starter.train.dataset import FIRST_TRAINING_SEED, to_tensor
from controlnext.starter.train.refit import refit
from controlnext.starter.train.video_networks import make_video_vae
from controlnext.starter.world.motion import render_clip, sample_clip

logger = logging.getLogger(__name__)
PICTURES, HELD_OUT = 16, 8
# The temporal decoder's middle has neither the attention nor the second block: its first block does what it can for them.
_INSTEAD = {"mid_block.resnets.0": "mid_block.resnets.1"}


def _pictures(first: int, count: int) -> torch.Tensor:
    clips = [sample_clip(seed, 1) for seed in range(first, first + count)]
    return to_tensor(np.stack([render_clip(stages, [look])[0][0].rgb for stages, look in clips]))


def held_out() -> torch.Tensor:
    """Return pictures of held-out clips, (B, 3, S, S) in [-1, 1]."""
    return _pictures(0, HELD_OUT)


def psnr(result: torch.Tensor, target: torch.Tensor) -> float:
    """Return the mean PSNR in dB of (B, 3, H, W) pictures in [-1, 1]."""
    return float((-10 * torch.log10(((result.clamp(-1, 1) - target) / 2).square().mean((1, 2, 3)))).mean())


@torch.no_grad()
def make(base: Path, out: Path) -> AutoencoderKLTemporalDecoder:
    """Refit the autoencoder in `base` and write it to `out`; takes some minutes."""
    teacher = AutoencoderKL.from_pretrained(base).eval()
    vae, turned = make_video_vae(teacher)
    vae.eval()
    pictures = _pictures(FIRST_TRAINING_SEED, PICTURES)
    refit(vae.encoder, teacher.encoder, lambda: vae.encoder(pictures), lambda: teacher.encoder(pictures), turned)
    latents = teacher.encode(pictures).latent_dist.mean
    still = torch.zeros(1, PICTURES)
    refit(
        vae.decoder,
        teacher.decoder,
        lambda: vae.decoder(latents, image_only_indicator=still, num_frames=PICTURES),
        lambda: teacher.decoder(teacher.post_quant_conv(latents)),
        turned,
        _INSTEAD,
    )
    shown = held_out()
    latents = teacher.encode(shown).latent_dist.mean
    logger.info(
        "held out: %.2f dB (the image starter's %.2f dB), latents apart by %.4f of their variance",
        psnr(vae.decode(vae.encode(shown).latent_dist.mean, num_frames=HELD_OUT).sample, shown),
        psnr(teacher.decode(latents).sample, shown),
        float((vae.encode(shown).latent_dist.mean - latents).square().mean() / latents.var()),
    )
    vae.save_pretrained(out)
    return vae
