"""Optimizers of kept libraries, and the learning rate over time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from controlnext.training.config import TrainingError

if TYPE_CHECKING:
    from controlnext.training.config import OptimizerConfig
    from controlnext.training.methods import Group

_ROUNDING = 1 + 1e-6  # the first warm-up itself is never held back by the rounding of a sum


def make_optimizer(groups: Sequence[Group], config: OptimizerConfig) -> torch.optim.Optimizer:
    """Make the optimizer of a training.

    Args:
        groups: what learns, each at its own rate; kept as `peak` in the optimizer's groups.
        config: names it; every null is filled in.

    Returns:
        The optimizer.

    Raises:
        TrainingError: a library that it needs is not installed.
    """
    rows = [
        {"params": list(group.parameters.values()), "lr": group.rate, "peak": group.rate, "name": group.name}
        for group in groups
    ]
    if config.name == "adafactor":
        from transformers.optimization import Adafactor

        # As the authors' SDXL training: rates are given, nothing about them is guessed.
        return Adafactor(
            rows, weight_decay=config.weight_decay, scale_parameter=False, relative_step=False, warmup_init=False
        )
    options = {"betas": config.betas, "weight_decay": config.weight_decay, "eps": config.eps}
    if config.name == "adamw8bit":
        try:
            from bitsandbytes.optim import AdamW8bit
        except ImportError:
            raise TrainingError(
                "optimizer.name=adamw8bit needs a package that is not here: pip install bitsandbytes, or take adamw or adafactor."
            ) from None
        return AdamW8bit(rows, **options)
    return torch.optim.AdamW(rows, **options)


def rate_factor(config: OptimizerConfig, step: int, share: float, before: float = 1.0) -> float:
    """What the peak learning rate is multiplied by.

    It never rises faster than in the warm-up. So a training that is given more time after its rate has fallen warms up again
    from where the rate ended, and does not jump to the peak with the moments of a rate near 0.

    Args:
        config: schedule, with every null filled in.
        step: steps done.
        share: of the training that is over, in [0, 1].
        before: factor of the step before; 1 if there was none.

    Source:
        Re-warming before a rate decays once more, as arXiv 2403.08763 goes on with trained models.
    """
    factor = min(1.0, (step + 1) / config.warm_up) if config.warm_up else 1.0
    if config.schedule == "cosine" and share > config.hold:
        factor *= 0.5 + 0.5 * math.cos(math.pi * (share - config.hold) / (1 - config.hold))
    return min(factor, before + _ROUNDING / config.warm_up) if config.warm_up else factor
