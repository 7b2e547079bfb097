"""`python -m controlnext bench convergence`: how soon each way of control follows its condition in training.

On the starter's base, with the same pictures, batches, noise, loss and optimizer: ControlNeXt as released, this project's
recommended recipe, that recipe without cross normalisation and with a zero convolution instead, a ControlNet and a T2I-Adapter.
Short runs of equal length choose each way's learning rate among the same candidates; full ones choose where a way has not
begun to follow in the short ones. Then each way is trained once a seed.

Every run is a small JSON file in the output folder, so that a stopped command resumes, and the report is made of finished
runs. Seconds are processor seconds on one thread.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import logging
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, fields, replace
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

from controlnext.assets import STARTER
from controlnext.bench.command import BenchError, bench_parser, prepare_worker, publish, whole
from controlnext.bench.convergence.plans import (
    RunPaths,
    choose_rates,
    longer_trials,
    main_trials,
    slow_ways,
    tuning_trials,
)
from controlnext.bench.convergence.report import write_report
from controlnext.bench.quality.plug_in import RUNS_DATA
from controlnext.starter.world.conditions import CONDITIONS

if TYPE_CHECKING:
    from controlnext.bench.convergence.trials import Trial
    from controlnext.bench.convergence.ways import Way

logger = logging.getLogger(__name__)

RATES = (5e-4, 1.5e-3, 4.5e-3)
"""Learning rates of new weights, tried for each way."""
PICTURES, RENDERED = 2048, 512
# Measured on one core of a shared x86 server with AMX whose other core was busy: a step of 16, a point of 24 scenes.
_STEP_SECONDS, _POINT_SECONDS = 1.5, 14.0
_SMOKE = ("--steps", "3", "--batch", "2", "--pictures", "8", "--scenes", "2", "--drawing-steps", "2", "--seeds", "1",
          "--conditions", "pose", "--rates", "1.5e-3", "--jobs", "1", "--points", "0", "1")  # fmt: skip


def perform(trial: Trial, paths: RunPaths, deadline: float) -> bool:
    """Do a run and write its result, unless it exists or time is over; return whether it exists."""
    if paths.file(trial).is_file():
        return True
    if time.time() > deadline:
        return False
    from controlnext.bench.convergence import dit_trials, trials

    began, shared = time.time(), (paths.assets, paths.data, trial.condition, trial.budget.scenery)
    setup = (
        trials.setup_for(*shared) if paths.transformer is None else dit_trials.setup_for(paths.transformer, *shared)
    )
    made = setup.run(trial)
    facts = {
        "condition": trial.condition,
        "way": trial.way.name,
        "title": trial.way.title,
        "seed": trial.seed,
        "rate": trial.rate,
        "settings": asdict(trial),
        "wall_seconds": round(time.time() - began, 1),
    }
    paths.runs.mkdir(parents=True, exist_ok=True)
    partial = paths.file(trial).with_suffix(".part")
    partial.write_text(json.dumps({**facts, **made}) + "\n", encoding="utf-8")
    partial.replace(paths.file(trial))
    return True


def perform_all(
    trials: Sequence[Trial], paths: RunPaths, jobs: int, deadline: float, work: Callable[..., bool] = perform
) -> bool:
    """Do all runs in order, several at a time; return whether all results exist."""
    missing = [trial for trial in trials if not paths.file(trial).is_file()]
    if jobs == 1 or len(missing) < 2:
        return all(work(trial, paths, deadline) for trial in missing)  # the first that is too late ends the loop
    with ProcessPoolExecutor(jobs, get_context("spawn"), prepare_worker) as pool:
        started = [pool.submit(work, trial, paths, deadline) for trial in missing]
        return all(run.result() for run in started)


def settle_rates(
    ways: Sequence[Way],
    options: argparse.Namespace,
    paths: RunPaths,
    deadline: float,
    work: Callable[..., bool] = perform,
) -> tuple[dict[str, float], list[Trial]] | None:
    """Choose a learning rate for each way; do the runs that this takes.

    Returns:
        Rates by the ways' names, and the runs that chose them; None while some of those are missing.
    """

    def there(trials: Sequence[Trial]) -> bool:
        done = all(paths.file(trial).is_file() for trial in trials)
        return done or (not options.report and perform_all(trials, paths, options.jobs, deadline, work))

    tuning = tuning_trials(ways, options)
    if not there(tuning):
        return None
    slow = slow_ways(ways, tuning, paths)
    longer = longer_trials(slow, options)
    if not there(longer):
        return None
    chosen = choose_rates([way for way in ways if way not in slow], tuning, paths, options.rates)
    return chosen | choose_rates(slow, longer, paths, options.rates), [*tuning, *longer]


def choose_ways(names: Sequence[str], tried: Sequence[str], base: str = "unet") -> list[Way]:
    """Return the ways to compare.

    Args:
        names: keys of the base's table or of those tried; empty takes the table's.
        tried: additional ways, each `NAME=WAY,field=value,...`: a way with other fields.
        base: `unet` or `dit`.

    Raises:
        BenchError: there is no such way or field.
    """
    from controlnext.bench.convergence import dit_ways
    from controlnext.bench.convergence import ways as unet_ways

    ways = dict(dit_ways.DIT_WAYS if base == "dit" else unet_ways.WAYS)
    for text in tried:
        name, _, rest = text.partition("=")
        origin, *changes = rest.split(",")
        if origin not in ways or not name or name in ways:
            raise BenchError(
                f"A way to try is written NAME=WAY,field=value, WAY one of {', '.join(ways)}; not {text!r}."
            )
        ways[name] = replace(ways[origin], name=name, title=text, **dict(_change(change) for change in changes))
    if unknown := [name for name in names if name not in ways]:
        raise BenchError(f"There is no way {unknown[0]!r}; choose among {', '.join(ways)}.")
    return [ways[name] for name in names or ways]


def _change(text: str) -> tuple[str, str | float]:
    from controlnext.bench.convergence.ways import Way

    name, equals, value = text.partition("=")
    types = {row.name: row.type for row in fields(Way)}
    if not equals or name not in types or name in ("name", "title"):
        raise BenchError(f"A way has no field {name!r} to change; see controlnext.bench.convergence.ways.Way.")
    try:
        return name, float(value) if types[name] == "float" else value
    except ValueError:
        raise BenchError(f"The field {name} of a way is a number, not {value!r}.") from None


def estimate(trials: Sequence[Trial], paths: RunPaths, jobs: int) -> tuple[float, str]:
    """Return the minutes that missing runs will take, and what the estimate rests on."""
    per_step, basis = _STEP_SECONDS / 16, "a rough figure of two busy cores"
    per_scene = _POINT_SECONDS / 24
    done = [(trial, result) for trial in trials if (result := paths.result(trial)) is not None]
    if done:
        expected = sum(_seconds(trial, per_step, per_scene) for trial, _ in done)
        factor = sum(result["wall_seconds"] for _, result in done) / expected
        per_step, per_scene, basis = per_step * factor, per_scene * factor, f"{len(done)} finished runs"
    missing = [trial for trial in trials if not paths.file(trial).is_file()]
    return sum(_seconds(trial, per_step, per_scene) for trial in missing) / min(jobs, max(len(missing), 1)) / 60, basis


def _seconds(trial: Trial, per_picture: float, per_scene: float) -> float:
    budget = trial.budget
    drawing = budget.scenery.scenes * budget.scenery.drawing_steps / 10
    return budget.steps * budget.batch * per_picture + len(budget.stops) * drawing * per_scene


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = bench_parser("convergence", __doc__, scenes=16, assets=STARTER, jobs=1)
    parser.add_argument("--out", type=Path, default=Path("runs/convergence"), help="folder of runs and report")
    parser.add_argument("--base", choices=("unet", "dit"), default="unet", help="the starter's UNet, or a transformer")
    parser.add_argument(
        "--transformer", type=Path, default=STARTER / "transformer", help="with --base dit: folder of the transformer"
    )
    parser.add_argument("--ways", nargs="*", default=[], metavar="WAY", help="these instead of all")
    parser.add_argument(
        "--try", action="append", default=[], dest="tried", metavar="NAME=WAY,FIELD=VALUE",
        help="another way: one of the table with other fields (last, subset, ratio, gamma, injection_point, join)",
    )  # fmt: skip
    parser.add_argument("--conditions", nargs="+", choices=CONDITIONS, default=["pose", "canny"], help="to follow")
    parser.add_argument("--seeds", type=whole(), default=3, help="runs of each way")
    parser.add_argument("--steps", type=whole(), default=200, help="training steps of a run")
    parser.add_argument("--batch", type=whole(), default=8, help="pictures a step")
    parser.add_argument("--points", type=float, nargs="*", help="shares of the steps at which to measure")
    parser.add_argument(
        "--rates", type=float, nargs="+", default=list(RATES), help="learning rates to choose from; one: no choice"
    )
    parser.add_argument(
        "--pictures", type=whole(),
        help=f"of the training set (default: {PICTURES}, or {RENDERED} if they must be rendered)",
    )  # fmt: skip
    parser.add_argument("--drawing-steps", type=whole(), default=10, help="denoising steps of a measured picture")
    parser.add_argument("--data", type=Path, help=f"encoded shards (default: {RUNS_DATA} if it exists, else rendered)")
    parser.add_argument("--minutes", type=float, help="start no run after so many; the same command resumes later")
    parser.add_argument("--report", action="store_true", help="only write the report of the finished runs")
    parser.add_argument(
        "--smoke", action="store_true", help="a minute: every way takes 3 steps; the figures mean nothing"
    )
    arguments = list(arguments or ())
    options = parser.parse_args(arguments)
    if options.smoke:
        options = parser.parse_args([*_SMOKE, "--out", "runs/convergence-smoke", *arguments])
    if options.data is None and not options.smoke and RUNS_DATA.is_dir():
        options.data = RUNS_DATA
    options.pictures = options.pictures or (PICTURES if options.data else RENDERED)
    options.rates = list(dict.fromkeys(options.rates))
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, measure and report; return 0, or 1 while runs are missing."""
    options = parse(arguments)
    if importlib.util.find_spec("matplotlib") is None:  # said before hours of training
        raise BenchError("The report's plots need a package that is missing: pip install matplotlib.")
    prepare_worker()
    ways = choose_ways(options.ways, options.tried, options.base)
    from controlnext.bench.convergence.trials import prepare_data

    transformer = options.transformer if options.base == "dit" else None
    paths = RunPaths(options.assets, options.data or options.out / "data", options.out / "runs", transformer)
    deadline = float("inf") if options.minutes is None else time.time() + 60 * options.minutes
    if not options.report:
        if options.data is None:
            prepare_data(paths.data, options.pictures, options.assets)
        expected = tuning_trials(ways, options) + main_trials(
            ways, {way.name: options.rates[0] for way in ways}, options
        )
        minutes, basis = estimate(expected, paths, options.jobs)
        logger.info(
            "%d runs, about %.0f minutes on %d processes, judged by %s", len(expected), minutes, options.jobs, basis
        )
    settled = settle_rates(ways, options, paths, deadline)
    if settled is None:
        sys.stderr.write("The learning rates are not chosen yet: run the same command again.\n")
        return 1
    chosen, tuning = settled
    trials = main_trials(ways, chosen, options)
    if not options.report:
        perform_all(trials, paths, options.jobs, deadline)
    results = [result for trial in trials if (result := paths.result(trial)) is not None]
    if not results:
        sys.stderr.write("There is no finished run to report: run the same command again.\n")
        return 1
    results.sort(key=lambda run: options.conditions.index(run["condition"]))
    base = "UNet" if transformer is None else "transformer"
    text, figures = write_report(options.out, results, [paths.result(trial) for trial in tuning], options.rates, base)
    if len(results) < len(trials):
        sys.stderr.write(f"{len(trials) - len(results)} runs are still missing: run the same command again.\n")
    return publish(options, figures, text, passed=len(results) == len(trials))
