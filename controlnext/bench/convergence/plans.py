"""The runs of the convergence bench, the files of their results, and the choice of learning rates."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from controlnext.bench.convergence.trials import Trial
    from controlnext.bench.convergence.ways import Way

TUNING_SHARE = 1 / 3
"""A tuning run has this share of the steps."""
BEGUN = 0.5
"""A way has begun to follow when it reaches this share of the best way's adherence."""


@dataclass(frozen=True)
class RunPaths:
    """Folders of the starter, of the training pictures and of the results of runs, and of the transformer that is the base, if one is."""

    assets: Path
    data: Path
    runs: Path
    transformer: Path | None = None

    def file(self, trial: Trial) -> Path:
        """Return the file of a run's result."""
        return self.runs / f"{trial.name}.json"

    def result(self, trial: Trial) -> dict[str, Any] | None:
        """Read a run's result; None if it is missing."""
        file = self.file(trial)
        return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None


def tuning_trials(ways: Sequence[Way], options: argparse.Namespace) -> list[Trial]:
    """Return one short run a way, rate and condition; none if there is a single rate."""
    if len(options.rates) == 1:
        return []
    steps = max(1, round(options.steps * TUNING_SHARE))
    return [
        _trial(options, way, condition, 0, rate, steps=steps, points=(1.0,))
        for condition in options.conditions
        for way in ways
        for rate in options.rates
    ]


def choose_rates(
    ways: Sequence[Way], trials: Sequence[Trial], paths: RunPaths, rates: Sequence[float]
) -> dict[str, float]:
    """Choose for each way the rate with the highest mean adherence over conditions, of equal ones the lower."""
    if not trials:
        return {way.name: rates[0] for way in ways}
    scores: dict[tuple[str, float], float] = {}
    for trial in trials:
        key = trial.way.name, trial.rate
        scores[key] = scores.get(key, 0.0) + paths.result(trial)["points"][-1]["adherence"]
    return {way.name: max(sorted(rates), key=lambda rate, name=way.name: scores[name, rate]) for way in ways}


def slow_ways(ways: Sequence[Way], trials: Sequence[Trial], paths: RunPaths) -> list[Way]:
    """Return the ways that had not begun to follow on any condition by the end of their tuning runs, whatever the rate.

    Their tuning runs cannot choose a rate.
    """
    if not trials:
        return []
    reached: dict[str, dict[str, float]] = {}
    for trial in trials:
        of_it = reached.setdefault(trial.condition, {})
        adherence = paths.result(trial)["points"][-1]["adherence"]
        of_it[trial.way.name] = max(of_it.get(trial.way.name, 0.0), adherence)
    return [way for way in ways if all(of_it[way.name] < BEGUN * max(of_it.values()) for of_it in reached.values())]


def longer_trials(slow: Sequence[Way], options: argparse.Namespace) -> list[Trial]:
    """Return one full run a rate and condition for slow ways; the run at the chosen rate is also the first seed's."""
    return [
        _trial(options, way, condition, 0, rate, steps=options.steps)
        for condition in options.conditions
        for way in slow
        for rate in options.rates
    ]


def main_trials(ways: Sequence[Way], chosen: Mapping[str, float], options: argparse.Namespace) -> list[Trial]:
    """Return one full run a seed, condition and way; seeds outermost, so that a stopped bench has all ways alike."""
    return [
        _trial(options, way, condition, seed, chosen[way.name], steps=options.steps)
        for seed in range(options.seeds)
        for condition in options.conditions
        for way in ways
    ]


def _trial(
    options: argparse.Namespace,
    way: Way,
    condition: str,
    seed: int,
    rate: float,
    **changes: Any,
) -> Trial:
    from controlnext.bench.convergence.trials import Budget, Scenery, Trial

    scenery = Scenery(options.pictures, options.scenes, options.drawing_steps)
    budget = Budget(batch=options.batch, scenery=scenery)
    changes = {**({"points": tuple(options.points)} if options.points else {}), **changes}
    return Trial(way, condition, seed, rate, replace(budget, **changes))
