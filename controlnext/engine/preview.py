"""Previews of a picture while it is made: latents to RGB by one small matrix, at almost no cost.

Decoding each step would double the time of a picture. An autoencoder's latents are close to a linear code of the local
colour, so a 5x3 matrix, fitted once to the loaded autoencoder itself, shows colours and shapes well enough to decide
whether to wait or to stop. And instead of the noisy latents, the page sees where they are heading.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from PIL import Image

from controlnext.recipes.schedulers import SCHEDULERS

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, AutoencoderTiny, SchedulerMixin

    from controlnext.engine.small_decoder import SmallDecoder

_CHART_SIZE = 128  # pixels of a colour chart's side
_FLAT_PATCHES = 8  # patches a side of a chart of flat colours
_SMOOTH_PATCHES = 4  # and of one that runs from colour to colour
_MOST_PICTURES = 4  # shown side by side
_SHARE = 0.1  # of the time that previews by a decoder take
_FRESH_NOISE = {row.kind for row in SCHEDULERS.values() if row.fresh_noise}


class LatentPreview:
    """The linear map from latents to colours of one autoencoder."""

    def __init__(self, matrix: torch.Tensor) -> None:
        """Take the map.

        Args:
            matrix: (C + 1, 3) float32; the last row is the offset. Maps a latent cell to RGB in [0, 1].
        """
        self.matrix = matrix

    @classmethod
    @torch.no_grad()
    def fit(cls, vae: AutoencoderKL) -> LatentPreview:
        """Fit the map by least squares on a few colour charts that the autoencoder encodes.

        Args:
            vae: the pipeline's autoencoder, on any device, in any dtype.

        Returns:
            The preview; deterministic for given weights.
        """
        charts = colour_charts().to(vae.device, vae.dtype)
        latents = vae.encode(charts * 2 - 1).latent_dist.mode().float().cpu()
        latents = (latents - (getattr(vae.config, "shift_factor", None) or 0.0)) * vae.config.scaling_factor
        colours = F.adaptive_avg_pool2d(charts.float().cpu(), latents.shape[-2:])
        if not torch.isfinite(latents).all():  # some autoencoders overflow in float16: no preview, and no harm
            return cls(torch.full((latents.shape[1] + 1, 3), torch.nan))
        wanted = colours.movedim(1, -1).reshape(-1, 3)
        return cls(torch.linalg.lstsq(_cells(latents), wanted, driver="gelsd").solution)

    def draw(self, latents: torch.Tensor, width: int, height: int) -> Image.Image | None:
        """Draw latents as one picture, the pictures of a batch side by side.

        Args:
            latents: (B, C, h, w), scaled as the pipeline holds them, any device and dtype.
            width: width of one picture in pixels.
            height: height of one picture in pixels.

        Returns:
            RGB picture (height, width * min(B, 4)); None when a number is not finite.
        """
        latents = latents[:_MOST_PICTURES].detach().float().cpu()
        batch, _, rows, columns = latents.shape
        colours = (_cells(latents) @ self.matrix).reshape(batch, rows, columns, 3)
        if not torch.isfinite(colours).all():
            return None
        strip = (colours.clamp(0, 1) * 255).round().to(torch.uint8).movedim(0, 1).reshape(rows, batch * columns, 3)
        return Image.fromarray(strip.numpy()).resize((width * batch, height), Image.Resampling.BICUBIC)


class DecodedPreview:
    """Previews by a small decoder. They take a tenth of the time at most: in between there is none."""

    def __init__(self, vae: AutoencoderKL, decoder: SmallDecoder) -> None:
        """Take the autoencoder and the decoder that shares its first half."""
        self._vae, self._decoder = vae, decoder
        self._next = self._pause = 0.0

    def begin(self) -> None:
        """Begin a run: it has its first preview once that takes no more than its share of the time; the very first run at once."""
        self._next = time.perf_counter() + self._pause

    @torch.no_grad()
    def draw(self, latents: torch.Tensor, width: int, height: int) -> Image.Image | None:
        """Draw latents as `LatentPreview.draw` does; None also where the next preview is not due."""
        begun = time.perf_counter()
        if begun < self._next or not torch.isfinite(latents).all():
            return None
        scaled = latents[:_MOST_PICTURES].to(self._vae.dtype) / self._vae.config.scaling_factor
        picture = _strip(self._decoder(self._vae.post_quant_conv(scaled)), width, height)
        done = time.perf_counter()
        self._pause = (done - begun) / _SHARE
        self._next = done + self._pause
        return picture


class TinyPreview:
    """Previews by a tiny autoencoder, which are as good as its pictures."""

    def __init__(self, vae: AutoencoderTiny) -> None:
        """Take the autoencoder, where the latents are or where they can be moved to."""
        self._vae = vae

    @torch.no_grad()
    def draw(self, latents: torch.Tensor, width: int, height: int) -> Image.Image | None:
        """Draw latents as `LatentPreview.draw` does."""
        if not torch.isfinite(latents).all():
            return None
        scaled = latents[:_MOST_PICTURES].to(self._vae.device, self._vae.dtype) / self._vae.config.scaling_factor
        return _strip(self._vae.decode(scaled).sample, width, height)


class CleanEstimate:
    """Estimate of the clean latents from two successive states of the denoising.

    Along a deterministic sampler's step the noise estimate is constant: both states are a * x0 + s * noise with known a and
    s, two equations for x0. Exact for DDIM, close for other solvers; samplers that add fresh noise show the state itself.
    """

    def __init__(self, scheduler: SchedulerMixin, steps: int | None = None) -> None:
        """Take the scheduler of the run, after `set_timesteps`.

        Args:
            scheduler: of the pipeline.
            steps: how many of its steps really run, the last ones; None = all.
        """
        self._scheduler = scheduler
        self._skipped = 0 if steps is None else len(scheduler.timesteps) - steps
        self._fresh_noise = type(scheduler).__name__ in _FRESH_NOISE
        self._before: torch.Tensor | None = None

    def __call__(self, step: int, latents: torch.Tensor) -> torch.Tensor:
        """Return an estimate of the clean latents.

        Args:
            step: index of the step just made.
            latents: (B, C, h, w), the state after it.

        Returns:
            (B, C, h, w), float32.
        """
        latents = latents.detach().float()
        before, self._before = self._before, latents
        step += self._skipped
        a1, s1 = self._state(step + 1)
        if before is None or before.shape != latents.shape or self._fresh_noise:
            return latents / (a1**2 + s1**2) ** 0.5
        a0, s0 = self._state(step)
        return (s0 * latents - s1 * before) / max(s0 * a1 - s1 * a0, 1e-3)

    def _state(self, index: int) -> tuple[float, float]:
        """Amounts of picture and noise in the latents before step `index`."""
        scheduler = self._scheduler
        if index >= len(scheduler.timesteps):
            return 1.0, 0.0
        if float(scheduler.init_noise_sigma) != 1.0:  # latents grow with the noise (Euler)
            return 1.0, float(scheduler.sigmas[index])
        alpha = float(scheduler.alphas_cumprod[int(scheduler.timesteps[index])])
        return alpha**0.5, (1 - alpha) ** 0.5


def colour_charts() -> torch.Tensor:
    """Colour charts to fit a preview on: (8, 3, 128, 128), float32 in [0, 1], always the same."""
    generator = torch.Generator().manual_seed(0)
    flat = torch.rand(4, 3, _FLAT_PATCHES, _FLAT_PATCHES, generator=generator)
    smooth = torch.rand(4, 3, _SMOOTH_PATCHES, _SMOOTH_PATCHES, generator=generator)
    return torch.cat(
        [
            F.interpolate(flat, size=_CHART_SIZE, mode="nearest"),
            F.interpolate(smooth, size=_CHART_SIZE, mode="bilinear", align_corners=True),
        ]
    )


def _strip(pictures: torch.Tensor, width: int, height: int) -> Image.Image:
    """Pictures (B, 3, h, w) in [-1, 1] side by side, each of the size asked for."""
    levels = ((pictures.float().cpu().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    strip = levels.permute(2, 0, 3, 1).flatten(1, 2)
    return Image.fromarray(strip.numpy()).resize((width * len(pictures), height), Image.Resampling.BICUBIC)


def _cells(latents: torch.Tensor) -> torch.Tensor:
    """Latents (B, C, h, w) as rows (B * h * w, C + 1) with a one at the end."""
    rows = latents.movedim(1, -1).reshape(-1, latents.shape[1])
    return torch.cat([rows, torch.ones(len(rows), 1)], dim=1)
