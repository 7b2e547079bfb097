"""Figures of learning curves: steps to a level, sudden rises, and the table of all ways of control."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from controlnext.bench.tables import markdown, number

HALF, NEARLY = 0.5, 0.9
"""Shares of the best adherence of any way, to which the steps are counted."""
_FLAT, _RISEN = 0.1, 0.6  # of a curve's own rise: flat up to the first share, past its steepest part at the second

Points = Sequence[Mapping[str, Any]]
"""Measurements of a run in order: `step`, `seconds`, `adherence` and `loss`."""


@dataclass(frozen=True)
class Summary:
    """Figures of the runs of one way on one condition.

    Attributes:
        condition: kind of condition.
        way: short name.
        title: for people.
        trained: number of weights that learn.
        rate: learning rate of new weights.
        runs: number of seeds.
        untrained: adherence before the first step, mean over seeds; None where it was not measured.
        adherence: at the end, mean over seeds.
        spread: its standard deviation; None for one run.
        loss: held out, at the end, mean; None if a run has none.
        half: mean steps to half of the best adherence over the runs that reach it; None if none does.
        nearly: the same to 90 %.
        nearly_seconds: the same in seconds.
        reached: runs that reach half, and 90 %.
        sudden: runs whose adherence is flat and then jumps.
        diverged: runs whose loss became NaN or infinite.
    """

    condition: str
    way: str
    title: str
    trained: int
    rate: float
    runs: int
    untrained: float | None
    adherence: float
    spread: float | None
    loss: float | None
    half: float | None
    nearly: float | None
    nearly_seconds: float | None
    reached: tuple[int, int]
    sudden: int
    diverged: int


def reached(points: Points, level: float, axis: str = "step") -> float | None:
    """Return where the adherence first reaches a level, interpolated between points; None if it never does."""
    if points[0]["adherence"] >= level:
        return float(points[0][axis])
    for before, after in pairwise(points):
        if after["adherence"] >= level:
            share = (level - before["adherence"]) / (after["adherence"] - before["adherence"])
            return float(before[axis] + share * (after[axis] - before[axis]))
    return None


def is_sudden(points: Points) -> bool:
    """Return whether a curve is flat and then jumps.

    It does if the way from a tenth of its own rise to 60 % takes no longer than the way to the tenth. A steady rise takes
    five times as long, one that levels off even longer.
    """
    values = [point["adherence"] for point in points]
    rise = max(values) - values[0]
    if rise <= 0:
        return False
    flat, risen = (reached(points, values[0] + share * rise) for share in (_FLAT, _RISEN))
    return risen - flat <= flat - points[0]["step"]


def summarise(runs: Iterable[Mapping[str, Any]]) -> list[Summary]:
    """Summarise the runs of each way and condition.

    Args:
        runs: plain data of runs: `condition`, `way`, `title`, `rate`, and what `TrialSetup.run` returns.

    Returns:
        One row a condition and way, in the order of their first run.
    """
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for run in runs:
        groups.setdefault((run["condition"], run["way"]), []).append(run)
    best: dict[str, float] = {}
    for (condition, _), group in groups.items():
        best[condition] = max(best.get(condition, 0.0), float(np.max(mean_curve(group, "adherence")[1])))
    return [_summary(group, best[condition]) for (condition, _), group in groups.items()]


def mean_curve(group: Sequence[Mapping[str, Any]], key: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return steps, and mean, smallest and largest value over the runs of one way; a missing value is NaN."""
    steps = np.array([point["step"] for point in group[0]["points"]], float)
    values = np.array(
        [[np.nan if point[key] is None else point[key] for point in run["points"]] for run in group], float
    )
    return steps, values.mean(0), values.min(0), values.max(0)


def _summary(group: Sequence[Mapping[str, Any]], best: float) -> Summary:
    curves = [run["points"] for run in group]
    last = [points[-1] for points in curves]
    adherences = [point["adherence"] for point in last]
    losses = [point["loss"] for point in last]
    half, nearly = ([reached(points, share * best) for points in curves] for share in (HALF, NEARLY))
    first = group[0]
    return Summary(
        condition=first["condition"],
        way=first["way"],
        title=first["title"],
        trained=first["trained"],
        rate=first["rate"],
        runs=len(group),
        untrained=_mean([None if points[0]["step"] else points[0]["adherence"] for points in curves]),
        adherence=float(np.mean(adherences)),
        spread=float(np.std(adherences, ddof=1)) if len(group) > 1 else None,
        loss=None if None in losses else float(np.mean(losses)),
        half=_mean(half),
        nearly=_mean(nearly),
        nearly_seconds=_mean([reached(points, NEARLY * best, "seconds") for points in curves]),
        reached=tuple(sum(value is not None for value in values) for values in (half, nearly)),
        sudden=sum(is_sudden(points) for points in curves),
        diverged=sum(run["diverged"] is not None for run in group),
    )


def _mean(values: Sequence[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return float(np.mean(there)) if there else None


def table(rows: Sequence[Summary], reference: str = "controlnet") -> str:
    """Format the rows of one condition as a Markdown table; steps to half also as a share of the reference's."""
    half = next((row.half for row in rows if row.way == reference), None)
    columns = [
        "way", "learnable, M", "rate", "adherence untrained", "at the end", "held-out loss", "steps to half of the best",
        "of ControlNet's", "steps to 90 %", "seconds to 90 %", "sudden",
    ]  # fmt: skip
    cells = [
        [
            row.title + (f" ({row.diverged} diverged)" if row.diverged else ""),
            f"{row.trained / 1e6:.2f}",
            f"{row.rate:.2g}",
            number(row.untrained),
            number(row.adherence) + ("" if row.spread is None else f" ± {row.spread:.3f}"),
            number(row.loss, ".4f"),
            _steps(row.half, row.reached[0], row.runs),
            number(None if row.half is None or not half else row.half / half, ".2f"),
            _steps(row.nearly, row.reached[1], row.runs),
            number(row.nearly_seconds, ".0f"),
            f"{row.sudden} of {row.runs}",
        ]
        for row in rows
    ]
    return markdown(columns, cells)


def _steps(value: float | None, reached_by: int, runs: int) -> str:
    if value is None:
        return "not reached"
    return f"{value:.0f}" + ("" if reached_by == runs else f" ({reached_by} of {runs})")
