"""Control strength (gamma): a number, one number per picture, or a curve over the fraction of the schedule.

A curve is written as a short text:

`0.7` is constant; `linear 1 to 0` and `cosine 1 to 0` go from the first step to the last; `0:1, 0.5:0.3` are points joined
by straight lines, constant before the first and after the last.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, Union, cast

from controlnext.errors import ControlNeXtError

if TYPE_CHECKING:
    from torch import Tensor

Strength = Union[float, Sequence[float], "Tensor"]
"""A number, or one per picture."""

HIGHEST = 4.0
"""Largest value of a curve; the same bound as for gamma itself."""

MOST_POINTS = 32

EXAMPLES = ("linear 1 to 0", "cosine 1 to 0", "0:1, 0.5:0.3")
"""One of each kind, for help texts and menus."""

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_RAMP = re.compile(rf"(linear|cosine)\s+({_NUMBER})\s+to\s+({_NUMBER})", re.IGNORECASE)
_POINT = re.compile(rf"({_NUMBER})\s*:\s*({_NUMBER})")


class ControlSizeError(ControlNeXtError, ValueError):
    """Sizes or values of condition, gamma, control and hidden states that do not go together."""


class GammaError(ControlNeXtError, ValueError):
    """A curve that cannot be read, or whose numbers are out of range."""


@dataclass(frozen=True)
class GammaCurve:
    """Gamma as a function of the fraction of the schedule.

    Attributes:
        points: (fraction, gamma) pairs, fractions in [0, 1] and rising, gammas in [0, 4].
        joined: `linear`, or `cosine` for half a cosine wave from each point to the next, level at both.
    """

    points: tuple[tuple[float, float], ...]
    joined: Literal["linear", "cosine"] = "linear"

    def __post_init__(self) -> None:
        """Refuse points that make no curve."""
        if not 1 <= len(self.points) <= MOST_POINTS:
            raise GammaError(f"A gamma curve has 1 to {MOST_POINTS} points, not {len(self.points)}.")
        for fraction, value in self.points:
            if not 0 <= fraction <= 1:
                raise GammaError(
                    f"A gamma curve goes over fractions of the schedule from 0 to 1, but one is {fraction:g}."
                )
            if not 0 <= value <= HIGHEST:
                raise GammaError(f"The values of a gamma curve go from 0 to {HIGHEST:g}, but one is {value:g}.")
        fractions = [fraction for fraction, _ in self.points]
        for before, after in pairwise(fractions):
            if after <= before:
                raise GammaError(
                    f"The fractions of a gamma curve rise from point to point, but {after:g} follows {before:g}."
                )

    @property
    def peak(self) -> float:
        """The largest value."""
        return max(value for _, value in self.points)

    def at(self, fraction: float) -> float:
        """Return gamma at a fraction of the schedule in [0, 1]."""
        fractions = [place for place, _ in self.points]
        right = bisect_right(fractions, fraction)
        if right == 0 or right == len(self.points):
            return self.points[max(right - 1, 0)][1]
        (start, before), (end, after) = self.points[right - 1 : right + 1]
        part = (fraction - start) / (end - start)
        if self.joined == "cosine":
            part = (1 - math.cos(math.pi * part)) / 2
        return before + part * (after - before)

    def at_step(self, index: int, steps: int) -> float:
        """Return gamma at one of a run's steps: the first is at fraction 0, the last at 1, a single one at 0."""
        return self.at(index / (steps - 1) if steps > 1 else 0.0)

    def scaled(self, factor: float) -> GammaCurve:
        """Return the curve with every value multiplied."""
        return replace(self, points=tuple((fraction, factor * value) for fraction, value in self.points))

    def format(self) -> str:
        """Write as the text that `parse_gamma` reads."""
        if len(self.points) == 1:
            return f"{self.points[0][1]:g}"
        if [fraction for fraction, _ in self.points] == [0, 1]:
            return f"{self.joined} {self.points[0][1]:g} to {self.points[1][1]:g}"
        return ", ".join(f"{fraction:g}:{value:g}" for fraction, value in self.points)


def parse_gamma(text: str) -> GammaCurve:
    """Read a curve.

    Args:
        text: a number, `linear A to B`, `cosine A to B`, or points `fraction:gamma, ...`.

    Returns:
        The curve.

    Raises:
        GammaError: it is none of these, or a number is out of range.
    """
    text = text.strip()
    if re.fullmatch(_NUMBER, text):
        return GammaCurve(((0.0, float(text)),))
    if ramp := _RAMP.fullmatch(text):
        return GammaCurve(
            ((0.0, float(ramp[2])), (1.0, float(ramp[3]))), cast("Literal['linear', 'cosine']", ramp[1].lower())
        )
    parts = text.split(",")
    points = [point for part in parts if (point := _POINT.fullmatch(part.strip()))]
    if len(points) < len(parts):
        shown = text if len(text) <= 40 else f"{text[:37]}..."
        raise GammaError(
            f"{shown!r} is no gamma curve: write a number, 'linear 1 to 0', 'cosine 1 to 0', or points such as "
            "'0:1, 0.5:0.3' (fraction of the steps, then gamma)."
        )
    return GammaCurve(tuple((float(point[1]), float(point[2])) for point in points))


def as_gamma(gamma: Strength) -> float | Tensor:
    """Check gamma.

    Args:
        gamma: A number, or one per picture.

    Returns:
        The values, `(1,)` or `(B,)` float32, or the number 0 if all of them are.

    Raises:
        ControlSizeError: These are not finite numbers.
    """
    import torch

    try:
        values = torch.as_tensor(gamma, dtype=torch.float32)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ControlSizeError(f"gamma is a number or one number per picture, not {gamma!r}.") from error
    if values.ndim > 1 or not values.numel() or not values.isfinite().all():
        raise ControlSizeError(f"gamma is a finite number or one per picture, not {gamma!r}.")
    if not values.any() and not values.requires_grad:
        return 0.0
    return values.reshape(-1)
