"""`python -m controlnext bench starter`: how well the bundled image model follows its control and its prompt.

Pictures are drawn for held-out scenes (seeds that no training has seen), read back by the starter's own annotator and
compared with what the world knows exactly. The same reading of the renders themselves is the ceiling of each number.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from controlnext.assets import STARTER
from controlnext.bench.command import bench_parser, default_jobs, prepare_worker, publish
from controlnext.bench.quality.scenes import (
    BATCH,
    COLOURED,
    STEPS,
    Colours,
    draw,
    held_out_scenes,
    judge_all,
    load_pipeline,
    renders,
)
from controlnext.bench.tables import markdown, number
from controlnext.starter.train.dataset import SceneSample
from controlnext.starter.world.conditions import CONDITIONS, condition
from controlnext.starter.world.sheets import save_sheet

_SHEET = 3  # batches on a contact sheet


@dataclass(frozen=True)
class Measure:
    """A row of the table: its label, the bar in words, the key of its figure and the condition it is drawn under."""

    label: str
    bar: str
    figure: str
    condition: str


MEASURES = (
    Measure("pose: PCK@0.1 of figure height", ">= 0.90 and >= 3x gamma 0", "pose", "pose"),
    Measure("segmentation: mean IoU over parts that occur", ">= 0.70", "segmentation", "segmentation"),
    Measure("depth: Spearman rank correlation", ">= 0.90", "depth", "depth"),
    Measure("canny: F1, 2 px tolerance", ">= 0.60 and >= 2x gamma 0", "canny", "canny"),
    *(Measure(f"prompt, under pose: {part} colour as written", ">= 0.90", part, "pose") for part in COLOURED),
)


def run_control(
    assets: Path, name: str, gamma: float, samples: Sequence[SceneSample], colours: Colours, sheets: Path | None
) -> dict[str, float]:
    """Draw one picture a scene under one control, and judge it."""
    pictures = draw(load_pipeline(assets, name), name, gamma, samples, f"{name} gamma {gamma:g}")
    if sheets:
        rows: list[Sequence[np.ndarray]] = []
        for start in range(0, min(len(samples), _SHEET * BATCH), BATCH):
            rows += [
                [condition(name, s.picture) for s in samples[start : start + BATCH]],
                pictures[start : start + BATCH],
            ]
        save_sheet(sheets / f"{name}-{gamma:g}.png", rows)
    return judge_all(samples, pictures, colours)


def seconds_a_picture(assets: Path, sample: SceneSample, repeats: int = 3) -> float:
    """Return the median seconds of one controlled picture, without the first, which warms up."""
    pipeline, times = load_pipeline(assets, "pose"), []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        draw(pipeline, "pose", 1.0, [sample])
        times.append(time.perf_counter() - started)
    return float(np.median(times[1:]))


def table(results: Mapping[str, Any]) -> str:
    """Format the results as a Markdown table."""
    ceiling, runs = results["renders"], results["runs"]
    rows = [
        (row.label, row.bar, *(number(runs.get(f"{row.condition} {gamma}", {}).get(row.figure)) for gamma in (1, 0)),
         number(ceiling[row.figure]))
        for row in MEASURES
    ]  # fmt: skip
    speed = (
        f"seconds a picture, {STEPS} steps, {results['threads']} threads",
        "<= 8",
        f"{results['seconds']:.2f}",
        None,
        None,
    )
    return markdown(["measure", "bar", "controlled", "gamma 0", "renders themselves"], [*rows, speed])


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print the table; return the exit status."""
    parser = bench_parser("starter", __doc__, scenes=200, assets=STARTER, jobs=default_jobs(), sheets=None)
    parser.add_argument("--only", choices=CONDITIONS, nargs="*", default=list(CONDITIONS), help="these conditions")
    options = parser.parse_args(arguments)
    prepare_worker()
    samples, colours = held_out_scenes(options.scenes), Colours.learn()
    # Only the bars that compare with gamma 0 need pictures at gamma 0.
    tasks = [(name, gamma) for name in options.only for gamma in ((1.0, 0.0) if name in ("pose", "canny") else (1.0,))]
    with ProcessPoolExecutor(options.jobs, get_context("spawn"), prepare_worker) as pool:
        started = [
            pool.submit(run_control, options.assets, name, gamma, samples, colours, options.sheets)
            for name, gamma in tasks
        ]
        runs = {f"{name} {gamma:g}": run.result() for (name, gamma), run in zip(tasks, started, strict=True)}
    results = {
        "scenes": options.scenes,
        "runs": runs,
        "renders": judge_all(samples, renders(samples), colours),
        "seconds": seconds_a_picture(options.assets, samples[0]),
        "threads": 1,
    }
    return publish(options, results, table(results))
