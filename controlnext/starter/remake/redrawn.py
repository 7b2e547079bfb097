"""Latents as a base model draws them, for a decoder to learn from."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline
from torch import Tensor

from controlnext.starter.remake.base import tokenize
from controlnext.starter.remake.compute import Compute
from controlnext.starter.train.base import Diffusion

SHARE = 0.5
"""Share of latents that are drawn again; the others stay as the encoder made them."""

MOST = 0.3
"""Most noise that is put on a latent, as a share of the timesteps: what it shows stays, its details are the base's."""


class Redrawn:
    """Puts noise on latents and has a base model take it off in one step, without words.

    A base that has learned for hours, not weeks, draws softer latents than an encoder makes. A decoder that knows
    only the encoder's shows them as washed out.
    """

    def __init__(self, base: Path, vae: AutoencoderKL, compute: Compute) -> None:
        """Load the diffusers folder `base`, which draws latents of `vae`."""
        pipeline = StableDiffusionPipeline.from_pretrained(base, dtype=torch.float32, safety_checker=None)
        self.scale, self.compute, self.diffusion = vae.config.scaling_factor, compute, Diffusion()
        self.unet = compute.prepare(pipeline.unet).eval().requires_grad_(False)
        with torch.no_grad():
            self.nothing = compute.put(pipeline.text_encoder(tokenize(pipeline.tokenizer, [""])).last_hidden_state)

    @torch.no_grad()
    def __call__(self, latents: Tensor) -> Tensor:
        """Return latents (B, C, h, w), not scaled, of which the first `SHARE` are drawn again."""
        count = round(SHARE * len(latents))
        x = latents[:count].float() * self.scale
        t = torch.randint(0, int(MOST * len(self.diffusion.signal)), (count,))
        a, b = (level[t].view(-1, 1, 1, 1).to(x) for level in (self.diffusion.signal, self.diffusion.noise))
        noisy = a * x + b * torch.randn_like(x)
        with self.compute.autocast():
            v = self.unet(noisy, t.to(x.device), self.nothing.expand(count, -1, -1)).sample.float()
        return torch.cat([(a * noisy - b * v) / self.scale, latents[count:].float()])
