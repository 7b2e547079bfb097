"""Optimizers, and the learning rate over time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from controlnext.training.config import TrainingError

if TYPE_CHECKING:
    from controlnext.training.config import OptimizerConfig
    from controlnext.training.methods import Group

_ROUNDING = 1 + 1e-6  # rounding of a sum never slows the first warm-up


def make_optimizer(groups: Sequence[Group], config: OptimizerConfig) -> torch.optim.Optimizer:
    """Make the optimizer of a training.

    Args:
        groups: weights that learn, each group at its own rate; kept as `peak` in the optimizer's groups.
        config: names it; every null is filled in.

    Returns:
        The optimizer.

    Raises:
        TrainingError: a package that it needs is not installed.
    """
    rows = [
        {"params": list(group.parameters.values()), "lr": group.rate, "peak": group.rate, "name": group.name}
        for group in groups
    ]
    if config.name == "adafactor":
        from transformers.optimization import Adafactor

        # As in the authors' SDXL training: the rates are given, none is estimated.
        return Adafactor(
            rows, weight_decay=config.weight_decay, scale_parameter=False, relative_step=False, warmup_init=False
        )
    options = {"betas": config.betas, "weight_decay": config.weight_decay, "eps": config.eps}
    if config.name == "adamw8bit":
        try:
            from bitsandbytes.optim import AdamW8bit
        except ImportError:
            raise TrainingError(
                "optimizer.name=adamw8bit needs a package that is missing: pip install bitsandbytes, or take adamw or adafactor."
            ) from None
        return AdamW8bit(rows, **options)
    return torch.optim.AdamW(rows, **options)


def rate_factor(config: OptimizerConfig, step: int, share: float, before: float = 1.0) -> float:
    """Return the factor of the peak learning rate.

    It never rises faster than in the warm-up: a training that gets more time after its rate has fallen warms up again from
    there. `diffusers.optimization.get_scheduler` counts steps alone, while a training here may be limited in minutes, and on
    such a resume it jumps: a cosine of 10 steps with 4 of warm-up, resumed with 30, goes from 0 to 83 % of the peak in one step.

    Args:
        config: schedule, with every null filled in.
        step: steps done.
        share: finished share of the training, in [0, 1].
        before: factor of the step before; 1 if there was none.

    Source:
        Re-warming before a rate decays again: arXiv 2403.08763, on continuing trained models.
    """
    factor = min(1.0, (step + 1) / config.warm_up) if config.warm_up else 1.0
    if config.schedule == "cosine" and share > config.hold:
        factor *= 0.5 + 0.5 * math.cos(math.pi * (share - config.hold) / (1 - config.hold))
    return min(factor, before + _ROUNDING / config.warm_up) if config.warm_up else factor
