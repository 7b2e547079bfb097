"""Signs of a training that goes wrong: exploding losses, zero gradients, frames that are all alike; and the forecast of its end."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from controlnext.training.methods import Group

WINDOW = 20
"""Steps whose mean loss is watched."""
START_SAMPLES = 16
"""Samples over which the loss is measured before the first step."""
EXPLODED = 2.0
"""A mean loss of so many times that of the start has exploded. Measured with the starter: its base has 0.3, a training of two
pictures a step 0.12 to 0.64 and 0.33 on average, one with a rate of 0.05 or 1 is at 0.9 after 20 steps and at 0.7 after 40."""
ZERO_STEPS = 10
"""Gradients of a group that have been exactly zero in so many steps in a row are worth a warning."""
FORECAST_STEPS = 10
"""Steps after which speed is known well enough for a forecast."""


ALIKE = 0.05
"""Conditions that vary less are all alike: nothing can be learned from them. Skeletons of the bundled
clips vary by 0.86 (dance) and 0.85 (gestures), eight frames each at 64 x 64 pixels."""
COLLAPSED = 0.005
"""Drawn frames that vary less are one picture."""


class TrainingWatch:
    """Watches losses and gradients of a run.

    Attributes:
        start_loss: mean loss before the first step; None if it was not measured.
    """

    def __init__(self, groups: Sequence[Group]) -> None:
        """Take the groups of weights that learn."""
        self.start_loss: float | None = None
        self._groups = groups
        self._zeros = dict.fromkeys((group.name for group in groups), 0)
        self._losses: deque[float] = deque(maxlen=WINDOW)

    @property
    def high(self) -> bool:
        """Whether the losses are so high that their weights should not replace an earlier checkpoint."""
        if self.start_loss is None or not self._losses:
            return False
        return sum(self._losses) / len(self._losses) > EXPLODED * self.start_loss

    def exploded(self, loss: float) -> float | None:
        """Take the loss of a step; return the mean of the last steps if it has exploded, else None."""
        self._losses.append(loss)
        return sum(self._losses) / WINDOW if len(self._losses) == WINDOW and self.high else None

    def without_gradient(self) -> list[str]:
        """Return the groups whose gradients have now been zero for `ZERO_STEPS` steps; each is named once."""
        found = []
        for group in self._groups:
            if self._zeros[group.name] >= ZERO_STEPS:
                continue
            gradients = [value.grad for value in group.parameters.values() if value.grad is not None]
            moving = bool(gradients) and any(norm.item() > 0 for norm in torch._foreach_norm(gradients, math.inf))
            self._zeros[group.name] = 0 if moving else self._zeros[group.name] + 1
            if self._zeros[group.name] == ZERO_STEPS:
                found.append(group.name)
        return found


def variation(frames: np.ndarray) -> float:
    """Return how much frames `(F, H, W, 3)` differ from their mean, relative to its brightness: 0 if all are the same."""
    frames = frames.astype(np.float32)
    mean = frames.mean(0)
    return float(np.abs(frames - mean).mean() / max(float(mean.mean()), 1e-6))


def forecast(step: int, steps: int, seconds_a_step: float, seconds: float | None) -> str:
    """Describe how a training will end at its present speed.

    Args:
        step: steps done.
        steps: total steps.
        seconds_a_step: measured speed.
        seconds: that are left of its minutes; None without a limit.
    """
    needed = (steps - step) * seconds_a_step
    speed = f"{seconds_a_step:.2g} s a step"
    if seconds is not None and seconds < needed:
        reached = step + int(seconds / seconds_a_step)
        return f"At {speed} about {reached} of {steps} steps fit into the {seconds / 60:.0f} minutes that are left."
    return f"At {speed} the remaining {steps - step} steps take about {needed / 60:.0f} minutes."
