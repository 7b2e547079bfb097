"""Sweeps, searches and repairs of the page and the API, run in a thread by the same stream as single pictures."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from controlnext.progress import Cancelled, Progress
from controlnext.recipes.kinds import AUTO
from controlnext.recipes.png import read_png
from controlnext.results.saved_sweeps import SavedSweep
from controlnext.studio.auto_gamma import MOST_RUNS, FoundGamma, find_gamma
from controlnext.studio.repair import MOST_REGIONS, Repaired, Repairer
from controlnext.ui.worker import Stream, in_thread

if TYPE_CHECKING:
    from pathlib import Path

    from controlnext.recipes.inputs import Inputs
    from controlnext.recipes.recipe import Recipe
    from controlnext.studio.studio import Result, Studio
    from controlnext.studio.sweep import InputsFor, Sweep

Report = Callable[[Progress], None]


def run_sweep(
    sweep: Sweep, stream: Stream, inputs_for: InputsFor, cancel: threading.Event
) -> Iterator[Progress | SavedSweep]:
    """Make what is left of a sweep, and write its figures, grid and plot; yields progress, then what there is.

    Args:
        sweep: opened.
        stream: runs each recipe.
        inputs_for: makes the pictures of a recipe.
        cancel: stops after the current step; set here as soon as the caller stops reading.
    """

    def work(report: Report) -> SavedSweep:
        pictures = _Counted(stream, cancel, report, len(sweep.jobs), len(sweep.jobs) - sweep.left)
        sweep.run(pictures.draw, inputs_for, cancel=cancel)
        if sweep.table().done:
            sweep.write()  # here, so that it is done where the page was closed, too
        return SavedSweep(sweep.folder, sweep.plan, sweep.table())

    return in_thread(work, cancel)


def run_search(
    recipe: Recipe, inputs: Inputs, target: float, stream: Stream, cancel: threading.Event
) -> Iterator[Progress | FoundGamma[Result]]:
    """Search the gamma of a wished adherence; yields progress, then what was found.

    Args:
        recipe: its seed and everything but its gamma stay.
        inputs: its pictures.
        target: wished adherence in (0, 1].
        stream: runs each recipe.
        cancel: stops after the current step.
    """

    def work(report: Report) -> FoundGamma[Result]:
        pictures = _Counted(stream, cancel, report, MOST_RUNS)

        def draw(gamma: float) -> tuple[float | None, Result]:
            result = pictures.draw(recipe.replace(gamma=gamma, gamma_curve="", num_images=1), inputs)
            return result.adherence[0], result

        return find_gamma(draw, target)

    return in_thread(work, cancel)


def run_repair(file: Path, studio: Studio, stream: Stream, cancel: threading.Event) -> Iterator[Progress | Repaired]:
    """Repair a saved result; yields progress, then what came out.

    Args:
        file: a PNG with its recipe inside.
        studio: reads pictures.
        stream: runs each recipe.
        cancel: stops after the current step.
    """

    def work(report: Report) -> Repaired:
        recipe = read_png(file)
        backend = studio.adherence_backend(recipe.model) if recipe else AUTO
        draw = counted_draw(stream, cancel, report, MOST_REGIONS)
        return Repairer(studio.annotators.annotate, backend, draw).repair(file)

    return in_thread(work, cancel)


def counted_draw(
    stream: Stream, cancel: threading.Event, report: Report, total: int = 1
) -> Callable[[Recipe, Inputs], Result]:
    """Return what runs recipes one after the other for code that waits for each, and reports which of `total` is at work."""
    return _Counted(stream, cancel, report, total).draw


class _Counted:
    """Runs recipes one after the other, and reports which of how many is at work."""

    def __init__(self, stream: Stream, cancel: threading.Event, report: Report, total: int, done: int = 0) -> None:
        self.stream, self.cancel, self.report, self.total, self.done = stream, cancel, report, total, done
        self.seconds: list[float] = []

    def draw(self, recipe: Recipe, inputs: Inputs) -> Result:
        result = None
        for one in self.stream(recipe, inputs, self.cancel):
            if isinstance(one, Progress):
                self.report(self._of_all(one))
            else:
                result = one
        if result is None:
            raise Cancelled("Stopped before a picture was finished.")
        self.done += 1
        self.seconds.append(result.seconds)
        return result

    def _of_all(self, one: Progress) -> Progress:
        after, left = max(0, self.total - self.done - 1), one.seconds_left
        if left is not None and self.seconds:
            left += after * sum(self.seconds) / len(self.seconds)
        elif after:
            left = None
        return replace(one, stage=f"Picture {self.done + 1} of {self.total}", seconds_left=left)
