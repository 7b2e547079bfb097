"""`python -m controlnext bench few-steps`: what few-step weights cost in adherence and colours, against 20 guided steps.

Held-out scenes are drawn with the same seeds by the bundled starter in 20 guided steps and, with weights by `distill.steps` and without
guidance, in each number of steps asked for. Pictures are read back by the starter's own annotator.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from controlnext.assets import STARTER
from controlnext.bench.command import BenchError, bench_parser, default_jobs, prepare_worker, publish, whole
from controlnext.bench.quality.scenes import (
    COLOURED,
    GUIDANCE,
    STEPS,
    Colours,
    draw,
    held_out_scenes,
    judge_all,
    load_pipeline,
)
from controlnext.bench.tables import markdown, number
from controlnext.loras.file import inspect_lora
from controlnext.loras.library import load_loras
from controlnext.method.adapter import ControlNeXtAdapter
from controlnext.recipes.kinds import KINDS
from controlnext.starter.train.dataset import SceneSample
from controlnext.starter.world.conditions import CONDITIONS
from controlnext.training.distill import SAMPLER, few_steps_scheduler

PLAIN = "no control"
BARS = {4: 0.01, 2: 0.03}
"""Steps -> how far adherence and colours may lie below those of the guided steps."""


def run_control(
    weights: Path | None, name: str, steps: int, samples: Sequence[SceneSample], colours: Colours
) -> dict[str, float]:
    """Draw one picture for each scene and judge it.

    Args:
        weights: LoRA file or adapter folder for few steps; None draws guided steps without it.
        name: condition, or `PLAIN`.
        steps: denoising steps.
        samples: scenes.
        colours: names of colours.
    """
    pipeline = load_pipeline(STARTER, CONDITIONS[0] if name == PLAIN else name)
    guidance = GUIDANCE
    if weights is not None:
        pipeline.scheduler, guidance = few_steps_scheduler(pipeline.scheduler), 1.0
        if weights.is_file():
            info = inspect_lora(weights)
            load_loras(pipeline, [(info, info.weight)])
        else:
            pipeline.unload_controlnext()
            pipeline.load_controlnext(ControlNeXtAdapter.from_pretrained(weights, variant="starter"), name)
    gamma = 0.0 if name == PLAIN else 1.0
    acting = CONDITIONS[0] if name == PLAIN else name
    label = f"{name}, {steps} steps"
    found = judge_all(samples, draw(pipeline, acting, gamma, samples, label, steps, guidance), colours)
    return {part: found[part] for part in (*COLOURED, *([] if name == PLAIN else [name]))}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print the table; return 0 if every bar is met, else 1."""
    parser = bench_parser("few-steps", __doc__, scenes=200, jobs=default_jobs())
    parser.add_argument(
        "--weights", type=Path, default=STARTER / "few-steps" / "few-steps.safetensors",
        help="LoRA file for every control, or the adapter folder of a training for the one of --only",
    )  # fmt: skip
    parser.add_argument("--steps", type=whole(), nargs="*", default=[4, 2, 1], help="numbers of steps")
    parser.add_argument("--only", choices=(*CONDITIONS, PLAIN), nargs="*", default=[*CONDITIONS, PLAIN], help="these")
    options = parser.parse_args(arguments)
    if not options.weights.exists():
        raise BenchError(f"There is nothing at {options.weights}: train it by distill.steps, see docs/training.md.")
    if options.weights.is_dir() and len(options.only) != 1:
        raise BenchError("An adapter is measured under its own control: name that one alone with --only.")
    prepare_worker()
    samples, colours = held_out_scenes(options.scenes), Colours.learn()
    tasks = [(name, steps) for name in options.only for steps in (STEPS, *options.steps)]
    with ProcessPoolExecutor(options.jobs, get_context("spawn"), prepare_worker) as pool:
        started = [
            pool.submit(run_control, None if steps == STEPS else options.weights, name, steps, samples, colours)
            for name, steps in tasks
        ]
        runs = {f"{name} {steps}": run.result() for (name, steps), run in zip(tasks, started, strict=True)}
    results = {"scenes": options.scenes, "sampler": SAMPLER, "runs": runs}
    return publish(options, results, table(results, options.only, options.steps), passed=_passed(runs))


def table(results: Mapping[str, Any], names: Sequence[str], steps: Sequence[int]) -> str:
    """Format the results as a Markdown table: a row for each control and figure, a column for each number of steps."""
    rows = [
        (name, KINDS[figure].score if figure in KINDS else f"{figure} colour",
         *(number(results["runs"][f"{name} {count}"][figure]) for count in (STEPS, *steps)))
        for name in names
        for figure in results["runs"][f"{name} {STEPS}"]
    ]  # fmt: skip
    head = ["control", "measure", f"{STEPS} guided steps", *(f"{count} steps" for count in steps)]
    return markdown(head, rows, title=f"{results['scenes']} held-out scenes")


def _passed(runs: Mapping[str, Mapping[str, float]]) -> bool:
    """Whether no figure lies further below that of the guided steps than its bar."""
    for key, found in runs.items():
        name, _, steps = key.rpartition(" ")
        teacher, below = runs[f"{name} {STEPS}"], BARS.get(int(steps))
        if below is not None and any(teacher[figure] - value > below for figure, value in found.items()):
            return False
    return True
