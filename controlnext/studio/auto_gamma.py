"""Auto-gamma: the control strength that gives a wished adherence, found by halving."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from controlnext.errors import ControlNeXtError

MOST_RUNS = 6
TOLERANCE = 0.03
"""Distance to the wished adherence at which the search ends."""
HIGHEST = 2.0
"""Largest gamma that is tried."""

Picture = TypeVar("Picture")


class AutoGammaError(ControlNeXtError, ValueError):
    """A search that cannot be made."""


@dataclass(frozen=True)
class GammaTry(Generic[Picture]):
    """One run of a search.

    Attributes:
        gamma: control strength.
        adherence: of the picture, in [0, 1].
        made: what the run returned.
    """

    gamma: float
    adherence: float
    made: Picture


@dataclass(frozen=True)
class FoundGamma(Generic[Picture]):
    """The end of a search.

    Attributes:
        tries: all runs in order.
        chosen: the run that came nearest.
        target: adherence that was wished.
        reached: whether it is within `TOLERANCE`.
    """

    tries: tuple[GammaTry[Picture], ...]
    chosen: GammaTry[Picture]
    target: float
    reached: bool

    def sentence(self) -> str:
        """Say what came out."""
        runs = f"{len(self.tries)} run{'s' if len(self.tries) > 1 else ''}"
        found = f"gamma {self.chosen.gamma:g} gives an adherence of {self.chosen.adherence:.2f}"
        if self.reached:
            return f"After {runs}, {found}; {self.target:.2f} was wished."
        highest = max(one.adherence for one in self.tries)
        if highest < self.target - TOLERANCE:
            return f"After {runs}, no gamma up to {HIGHEST:g} reached {self.target:.2f}: {found}, the nearest. Try another seed or map."
        return f"After {runs}, {found}, the nearest to {self.target:.2f}: adherence jumps over it. Try another seed."


def find_gamma(
    draw: Callable[[float], tuple[float | None, Picture]], target: float, most: int = MOST_RUNS
) -> FoundGamma[Picture]:
    """Search the gamma whose picture follows its condition as well as wished.

    Args:
        draw: runs one gamma; returns adherence and picture.
        target: wished adherence in (0, 1].
        most: runs at most, >= 1.

    Raises:
        AutoGammaError: the target is no adherence, or adherence cannot be measured here.
    """
    if isinstance(target, bool) or not isinstance(target, int | float) or not 0 < target <= 1:
        raise AutoGammaError(f"The wished adherence is a number above 0 and at most 1, not {target!r:.40}.")
    low, high = 0.0, HIGHEST
    tries: list[GammaTry[Picture]] = []
    while len(tries) < most:
        gamma = (low + high) / 2
        score, made = draw(gamma)
        if score is None:
            raise AutoGammaError(
                "The adherence to this control cannot be measured, so no gamma can be searched for: take pose, depth, edges or regions."
            )
        tries.append(GammaTry(gamma, score, made))
        if abs(score - target) <= TOLERANCE:
            break
        low, high = (low, gamma) if score > target else (gamma, high)
    chosen = min(tries, key=lambda one: (abs(one.adherence - target), one.gamma))
    return FoundGamma(tuple(tries), chosen, float(target), abs(chosen.adherence - target) <= TOLERANCE)
