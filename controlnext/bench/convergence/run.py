"""`python -m controlnext bench convergence`: how soon does each way of control follow its condition?

On the starter's base, with the same pictures, batches, noise, loss and optimizer: ControlNeXt as released, this project's
recommended recipe, that recipe without cross normalisation and with a zero convolution instead, a ControlNet and a T2I-Adapter.
Each way's learning rate is chosen among the same few by short runs of the same length, or by full ones where a way has not begun
to follow in the short ones; then it is trained once a seed.

Every run is a small JSON file in the output folder, so that a command that was stopped goes on where it was, and the report
is made of what is there. Seconds are the processor's, on one thread.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, fields, replace
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

from controlnext.assets import STARTER
from controlnext.bench.convergence.plans import (
    Place,
    choose_rates,
    longer_trials,
    main_trials,
    slow_ways,
    tuning_trials,
)
from controlnext.bench.convergence.report import write_report
from controlnext.errors import ControlNeXtError
from controlnext.starter.world.conditions import CONDITIONS

if TYPE_CHECKING:
    from controlnext.bench.convergence.trials import Trial
    from controlnext.bench.convergence.ways import Way

logger = logging.getLogger(__name__)

RATES = (5e-4, 1.5e-3, 4.5e-3)
"""Learning rates of what is new, tried for each way."""
RUNS_DATA = Path("runs/data")
PICTURES, RENDERED = 2048, 512
# Of one core of a shared x86 server with AMX whose other core does the same: a step of 16, a point of 24 scenes.
_STEP_SECONDS, _POINT_SECONDS = 1.5, 14.0
_SMOKE = ("--steps", "3", "--batch", "2", "--pictures", "8", "--scenes", "2", "--drawing-steps", "2", "--seeds", "1",
          "--conditions", "pose", "--rates", "1.5e-3", "--jobs", "1", "--points", "0", "1")  # fmt: skip


class ConvergenceError(ControlNeXtError, ValueError):
    """A comparison that cannot be made."""


def perform(trial: Trial, place: Place, deadline: float) -> bool:
    """Do a run and write its result, unless it is there or time is over; return whether it is there."""
    if place.file(trial).is_file():
        return True
    if time.time() > deadline:
        return False
    from controlnext.bench.convergence.trials import stage

    began = time.time()
    made = stage(place.assets, place.data, trial.condition, trial.budget.scenery).run(trial)
    facts = {
        "condition": trial.condition,
        "way": trial.way.name,
        "title": trial.way.title,
        "seed": trial.seed,
        "rate": trial.rate,
        "settings": asdict(trial),
        "wall_seconds": round(time.time() - began, 1),
    }
    place.runs.mkdir(parents=True, exist_ok=True)
    partial = place.file(trial).with_suffix(".part")
    partial.write_text(json.dumps({**facts, **made}) + "\n", encoding="utf-8")
    partial.replace(place.file(trial))
    return True


def perform_all(
    trials: Sequence[Trial], place: Place, jobs: int, deadline: float, work: Callable[..., bool] = perform
) -> bool:
    """Do all runs, in order, several at a time; return whether all are there."""
    missing = [trial for trial in trials if not place.file(trial).is_file()]
    if jobs == 1 or len(missing) < 2:
        return all(work(trial, place, deadline) for trial in missing)  # the first that is too late ends it
    with ProcessPoolExecutor(jobs, get_context("spawn"), prepare_process) as pool:
        started = [pool.submit(work, trial, place, deadline) for trial in missing]
        return all(run.result() for run in started)


def prepare_process() -> None:
    """One thread a process, which is quickest on few cores, and lines on the error stream that tell how it goes."""
    import torch

    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")


def settle_rates(
    ways: Sequence[Way],
    options: argparse.Namespace,
    place: Place,
    deadline: float,
    work: Callable[..., bool] = perform,
) -> tuple[dict[str, float], list[Trial]] | None:
    """Choose a learning rate for each way, doing the runs that this takes.

    Returns:
        Rates by the ways' names, and the runs by which they were chosen; None while some of those are missing.
    """

    def there(trials: Sequence[Trial]) -> bool:
        done = all(place.file(trial).is_file() for trial in trials)
        return done or (not options.report and perform_all(trials, place, options.jobs, deadline, work))

    tuning = tuning_trials(ways, options)
    if not there(tuning):
        return None
    slow = slow_ways(ways, tuning, place)
    longer = longer_trials(slow, options)
    if not there(longer):
        return None
    chosen = choose_rates([way for way in ways if way not in slow], tuning, place, options.rates)
    return chosen | choose_rates(slow, longer, place, options.rates), [*tuning, *longer]


def choose_ways(names: Sequence[str], tried: Sequence[str]) -> list[Way]:
    """Return the ways to compare.

    Args:
        names: keys of `WAYS` or of those tried; empty takes the table's.
        tried: further ways, each `NAME=WAY,field=value,...`: a way with other fields.

    Raises:
        ConvergenceError: there is no such way or field.
    """
    from controlnext.bench.convergence.ways import WAYS

    ways = dict(WAYS)
    for text in tried:
        name, _, rest = text.partition("=")
        origin, *changes = rest.split(",")
        if origin not in ways or not name or name in ways:
            raise ConvergenceError(
                f"A way to try is written NAME=WAY,field=value, WAY one of {', '.join(ways)}; not {text!r}."
            )
        ways[name] = replace(ways[origin], name=name, title=text, **dict(_change(change) for change in changes))
    if unknown := [name for name in names if name not in ways]:
        raise ConvergenceError(f"There is no way {unknown[0]!r}; choose among {', '.join(ways)}.")
    return [ways[name] for name in names or ways]


def _change(text: str) -> tuple[str, Any]:
    from controlnext.bench.convergence.ways import Way

    name, equals, value = text.partition("=")
    types = {row.name: row.type for row in fields(Way)}
    if not equals or name not in types or name in ("name", "title"):
        raise ConvergenceError(f"A way has no field {name!r} to change; see controlnext.bench.convergence.ways.Way.")
    try:
        return name, float(value) if types[name] == "float" else value
    except ValueError:
        raise ConvergenceError(f"The field {name} of a way is a number, not {value!r}.") from None


def estimate(trials: Sequence[Trial], place: Place, jobs: int) -> tuple[float, str]:
    """Return the minutes that missing runs will take, and what that is judged by."""
    per_step, by = _STEP_SECONDS / 16, "a rough figure of two busy cores"
    per_scene = _POINT_SECONDS / 24
    done = [(trial, result) for trial in trials if (result := place.result(trial)) is not None]
    if done:
        expected = sum(_seconds(trial, per_step, per_scene) for trial, _ in done)
        factor = sum(result["wall_seconds"] for _, result in done) / expected
        per_step, per_scene, by = per_step * factor, per_scene * factor, f"the {len(done)} runs that are there"
    missing = [trial for trial in trials if not place.file(trial).is_file()]
    return sum(_seconds(trial, per_step, per_scene) for trial in missing) / min(jobs, max(len(missing), 1)) / 60, by


def _seconds(trial: Trial, per_picture: float, per_scene: float) -> float:
    budget = trial.budget
    drawing = budget.scenery.scenes * budget.scenery.drawing_steps / 10
    return budget.steps * budget.batch * per_picture + len(budget.stops) * drawing * per_scene


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m controlnext bench convergence",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, default=Path("runs/convergence"), help="folder of runs and report")
    parser.add_argument("--ways", nargs="*", default=[], metavar="WAY", help="these instead of all")
    parser.add_argument(
        "--try", action="append", default=[], dest="tried", metavar="NAME=WAY,FIELD=VALUE",
        help="a further way: one of the table with other fields (last, subset, ratio, gamma, injection_point, join)",
    )  # fmt: skip
    parser.add_argument("--conditions", nargs="+", choices=CONDITIONS, default=["pose", "canny"])
    parser.add_argument("--seeds", type=int, default=3, help="runs of each way (default: 3)")
    parser.add_argument("--steps", type=int, default=200, help="training steps of a run (default: 200)")
    parser.add_argument("--batch", type=int, default=8, help="pictures a step (default: 8)")
    parser.add_argument("--points", type=float, nargs="*", help="shares of the steps at which is measured")
    parser.add_argument(
        "--rates", type=float, nargs="+", default=list(RATES), help="learning rates to choose from; one: no choice"
    )
    parser.add_argument(
        "--pictures",
        type=int,
        help=f"of the training set (default: {PICTURES}, or {RENDERED} if they must be rendered)",
    )
    parser.add_argument("--scenes", type=int, default=16, help="held out, drawn at each point (default: 16)")
    parser.add_argument("--drawing-steps", type=int, default=10, help="of a drawn picture (default: 10)")
    parser.add_argument(
        "--data", type=Path, help=f"encoded shards (default: {RUNS_DATA} if it is there, else rendered)"
    )
    parser.add_argument("--assets", type=Path, default=STARTER, help="folder of the starter")
    parser.add_argument("--jobs", type=int, default=1, help="processes, one thread each (default: 1)")
    parser.add_argument("--minutes", type=float, help="begin no run after so many; the same command goes on later")
    parser.add_argument("--report", action="store_true", help="only write the report of the runs that are there")
    parser.add_argument(
        "--smoke", action="store_true", help="a minute: every way takes 3 steps; says nothing about them"
    )
    arguments = list(arguments or ())
    options = parser.parse_args(arguments)
    if options.smoke:
        options = parser.parse_args([*_SMOKE, "--out", "runs/convergence-smoke", *arguments])
    if options.data is None and not options.smoke and RUNS_DATA.is_dir():
        options.data = RUNS_DATA
    options.pictures = options.pictures or (PICTURES if options.data else RENDERED)
    if min(options.seeds, options.steps, options.batch, options.pictures, options.scenes, options.jobs) < 1:
        parser.error("seeds, steps, batch, pictures, scenes and jobs are 1 or more")
    options.rates = list(dict.fromkeys(options.rates))
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, measure and report; returns 0, or 1 where runs are missing still."""
    options = parse(arguments)
    prepare_process()
    ways = choose_ways(options.ways, options.tried)
    from controlnext.bench.convergence.trials import prepare_data

    place = Place(options.assets, options.data or options.out / "data", options.out / "runs")
    deadline = float("inf") if options.minutes is None else time.time() + 60 * options.minutes
    if not options.report and options.data is None:
        prepare_data(place.data, options.pictures, options.assets)
    tuning = tuning_trials(ways, options)
    expected = tuning + main_trials(ways, {way.name: options.rates[0] for way in ways}, options)
    minutes, by = estimate(expected, place, options.jobs)
    if not options.report:
        logger.info(
            "%d runs, about %.0f minutes on %d processes, judged by %s", len(expected), minutes, options.jobs, by
        )
    settled = settle_rates(ways, options, place, deadline)
    if settled is None:
        sys.stderr.write("The learning rates are not chosen yet: run the same command again.\n")
        return 1
    chosen, tuning = settled
    trials = main_trials(ways, chosen, options)
    if not options.report:
        perform_all(trials, place, options.jobs, deadline)
    results = [result for trial in trials if (result := place.result(trial)) is not None]
    if not results:
        sys.stderr.write("There is no finished run to report: run the same command again.\n")
        return 1
    results.sort(key=lambda run: options.conditions.index(run["condition"]))
    sys.stdout.write(write_report(options.out, results, [place.result(trial) for trial in tuning], options.rates))
    if len(results) < len(trials):
        sys.stderr.write(f"{len(trials) - len(results)} runs are missing still: run the same command again.\n")
        return 1
    return 0
