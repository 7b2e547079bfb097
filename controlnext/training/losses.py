"""Noise processes and the loss: noised latents, timesteps, targets and weights, for discrete schedules and for SVD."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from controlnext.training.config import TrainingError

if TYPE_CHECKING:
    from diffusers import SchedulerMixin


@dataclass(frozen=True)
class Noised:
    """Noised latents and what the UNet should predict for them.

    Attributes:
        sample: input of the UNet, shaped as the latents.
        timestep: `(B,)`.
        target: what it should predict, shaped as the latents.
        weight: `(B,)` weight of each sample in the loss.
    """

    sample: Tensor
    timestep: Tensor
    target: Tensor
    weight: Tensor


class NoiseProcess(Protocol):
    """How latents are noised; `share` `(B,)` in [0, 1) decides how much."""

    def noised(self, latents: Tensor, noise: Tensor, share: Tensor) -> Noised:
        """Noise latents `(B, ...)` by noise of the same shape."""


def _wide(values: Tensor, like: Tensor) -> Tensor:
    return values.view(-1, *[1] * (like.ndim - 1))


class DiscreteProcess:
    """The forward process of a schedule with alphas, for noise, v and clean-latent prediction."""

    def __init__(self, scheduler: SchedulerMixin, *, late: bool = False, min_snr: float = 0.0) -> None:
        """Read a schedule.

        Args:
            scheduler: a stock diffusers scheduler with `alphas_cumprod`.
            late: draw noisy timesteps more often, with density 2t: there the control matters most.
            min_snr: gamma of min-SNR weighting; 0 is off.

        Raises:
            TrainingError: the model predicts something unknown.

        Source:
            Ho et al., arXiv 2006.11239; v: Salimans and Ho, arXiv 2202.00512; min-SNR: Hang et al., arXiv 2303.09556.
        """
        alphas = scheduler.alphas_cumprod.to(torch.float64)
        self.signal, self.sigma = alphas.sqrt().float(), (1 - alphas).sqrt().float()
        self.kind = scheduler.config.prediction_type
        if self.kind not in ("epsilon", "v_prediction", "sample"):
            raise TrainingError(f"The base model predicts {self.kind!r}, which this trainer does not know.")
        self.late, self.min_snr = late, min_snr

    def noised(self, latents: Tensor, noise: Tensor, share: Tensor) -> Noised:
        """See `NoiseProcess.noised`."""
        share = share.sqrt() if self.late else share
        t = (share * len(self.signal)).long().clamp(max=len(self.signal) - 1)
        a, s = self.signal.to(latents.device)[t], self.sigma.to(latents.device)[t]
        wide_a, wide_s = _wide(a, latents), _wide(s, latents)
        sample = wide_a * latents + wide_s * noise
        targets = {"epsilon": noise, "v_prediction": wide_a * noise - wide_s * latents, "sample": latents}
        return Noised(sample, t, targets[self.kind], self._weight(a, s))

    def _weight(self, a: Tensor, s: Tensor) -> Tensor:
        if not self.min_snr:
            return torch.ones_like(a)
        snr = (a / s.clamp(min=1e-8)) ** 2
        capped = snr.clamp(max=self.min_snr)
        # The loss of each prediction in units of the loss of clean latents, whose weight is min(snr, gamma).
        unit = {"epsilon": snr, "v_prediction": snr + 1, "sample": torch.ones_like(snr)}[self.kind]
        return torch.where(unit > 0, capped / unit.clamp(min=1e-20), torch.ones_like(unit))


class ContinuousProcess:
    """The process of Stable Video Diffusion: noise levels sigma, t = ln(sigma) / 4, v-prediction.

    The authors weight the error of the denoised latents by (1 + sigma^2) / sigma^2. With v-prediction that is exactly the
    plain error of the prediction itself, which is what the target here gives.

    Source:
        Karras et al., arXiv 2206.00364; the density of sigma: `rand_cosine_interpolated` of crowsonkb/k-diffusion, with the
        values of the authors' SVD training.
    """

    SIGMA_MIN, SIGMA_MAX, SIGMA_DATA = 0.002, 700.0, 0.5
    IMAGE, NOISE_LOW, NOISE_HIGH = 64, 32, 64

    def sigmas(self, share: Tensor) -> Tensor:
        """Turn evenly drawn `(B,)` numbers in [0, 1) into noise levels."""
        share = share.double()
        low, high = (self._log_snr(share, size) for size in (self.NOISE_LOW, self.NOISE_HIGH))
        return (self.SIGMA_DATA * torch.exp(-torch.lerp(low, high, share) / 2)).float()

    def _log_snr(self, share: Tensor, noise_size: int) -> Tensor:
        """A cosine schedule between the bounds, shifted from one picture size to another."""
        shift = 2 * math.log(noise_size / self.IMAGE)
        first, last = (
            math.atan(math.exp(0.5 * (2 * math.log(sigma / self.SIGMA_DATA) + shift)))
            for sigma in (self.SIGMA_MAX, self.SIGMA_MIN)
        )
        return -2 * torch.log(torch.tan(first + share * (last - first))) + shift

    def noised(self, latents: Tensor, noise: Tensor, share: Tensor) -> Noised:
        """See `NoiseProcess.noised`."""
        sigma = self.sigmas(share).to(latents.device)
        wide = _wide(sigma, latents)
        noisy = latents + wide * noise
        target = (noisy / (wide**2 + 1) - latents) * (wide**2 + 1).sqrt() / wide
        return Noised(noisy / (wide**2 + 1).sqrt(), sigma.log() / 4, target, torch.ones_like(sigma))


class FlowProcess:
    """Flow matching: straight lines from latents to noise, whose direction is predicted; t is sigma times 1000, as SD3 counts.

    Source:
        Esser et al., arXiv 2403.03206: sigmas by a logit-normal density.
    """

    def __init__(self, shift: float = 0.0) -> None:
        """Take the mean of the logits; above 0 draws more noise, where a control has most to decide."""
        self.shift = shift

    def noised(self, latents: Tensor, noise: Tensor, share: Tensor) -> Noised:
        """See `NoiseProcess.noised`."""
        normal = torch.special.ndtri(share.double().clamp(1e-6, 1 - 1e-6))
        sigma = torch.sigmoid(normal + self.shift).to(latents.device, torch.float32)
        return Noised(
            torch.lerp(latents, noise, _wide(sigma, latents)), 1000 * sigma, noise - latents, torch.ones_like(sigma)
        )


def weighted_error(predicted: Tensor, noised: Noised, weight: Tensor | None = None) -> Tensor:
    """Mean squared error in float32, each sample by its weight, each cell by `weight` `(B, 1, h, w)` if given."""
    error = (predicted.float() - noised.target.float()) ** 2
    if weight is not None:
        error = error * weight
    return (error.flatten(1).mean(1) * noised.weight).mean()
