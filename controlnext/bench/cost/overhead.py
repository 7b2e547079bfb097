"""`python -m controlnext bench overhead`: what the control costs a denoising step.

With `--family`, a base model at its real size with random weights, compared with ControlNet and T2I-Adapter: exact FLOPs, or
seconds and peak memory on a device. Without it, the milliseconds of a preset on this machine:

One process, one model, and the three kinds of run in turn, round after round, so that a machine that slows down slows all of
them: without control, with controls computed at each step (cold), and with controls kept from an earlier run (kept).
Only denoising is timed, by the time between steps; text encoding and decoding are the same in all three. The adapter's
UNet weights are in place in the controlled runs and cost nothing.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from controlnext.bench.command import BenchError, bench_parser, publish, whole
from controlnext.bench.cost.base_models import BENCH_MODELS, SIZE_STEP, get_model
from controlnext.bench.cost.transformers import count_transformers, overhead_table
from controlnext.bench.tables import markdown, number
from controlnext.models.catalogue import Catalogue
from controlnext.models.presets import DEFAULT_MODEL
from controlnext.recipes.inputs import Inputs

if TYPE_CHECKING:
    from controlnext.engine.engine import Engine
    from controlnext.recipes.recipe import Recipe

META = "meta"
"""The device on which nothing has content and only shapes are computed."""
KINDS = {
    "without": "no control",
    "cold": "control computed at each step",
    "kept": "control kept from an earlier run",
}
"""Kind of run -> its label in the table."""


@dataclass
class Timing:
    """Milliseconds of single steps, by kind of run."""

    steps: dict[str, list[float]]

    def medians(self) -> dict[str, float]:
        """Return the median milliseconds of a step, by kind."""
        return {kind: statistics.median(self.steps[kind]) for kind in KINDS}

    def ratios(self) -> dict[str, float]:
        """Return how many times as long a controlled step takes."""
        medians = self.medians()
        return {kind: medians[kind] / medians["without"] for kind in KINDS}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; return 0, or 1 if a family misses its bars."""
    parser = bench_parser("overhead", __doc__, threads=None)
    families = ", ".join(BENCH_MODELS)
    parser.add_argument(
        "--family", choices=BENCH_MODELS, metavar="FAMILY", help=f"real size, random weights: {families}"
    )
    parser.add_argument(
        "--size",
        type=whole(SIZE_STEP, SIZE_STEP),
        help="with --family: short side in pixels (default: the family's own)",
    )
    parser.add_argument(
        "--transformers",
        action="store_true",
        help="count FLOPs of FLUX, SD3.5, Qwen-Image, Z-Image and Wan at real sizes",
    )
    parser.add_argument("--compile", action="store_true", help="with --family: also measure with torch.compile")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="preset")
    parser.add_argument("--adapter", help="kind of condition (default: the first the model has)")
    parser.add_argument("--rounds", type=whole(), default=5, help="times each kind is run")
    parser.add_argument("--steps", type=whole(2), default=10, help="denoising steps of a run")
    parser.add_argument("--num-images", type=whole(), default=1, help="pictures in the batch")
    parser.add_argument(
        "--device", help="cuda, mps or cpu (default: the best there is); meta counts FLOPs (default with --family)"
    )
    options = parser.parse_args(arguments)
    if options.transformers:
        costs = count_transformers()
        return publish(options, [asdict(cost) for cost in costs], overhead_table(costs))
    if options.device in (None, META) and (options.family or options.device):
        return _count(options)
    if options.family:
        return _time(options)
    timing, facts = measure(options)
    figures = {**facts, "milliseconds": timing.medians(), "ratio": timing.ratios()}
    return publish(options, figures, table(timing, facts))


def _count(options: argparse.Namespace) -> int:
    """Print FLOPs of a family, or of all; return 0 if all bars are met, else 1."""
    from controlnext.bench.cost.flops import count_steps, table

    models = [get_model(options.family)] if options.family else list(BENCH_MODELS.values())
    counts = {model.name: count_steps(model, options.size) for model in models}
    figures = {name: [{**asdict(count), "met": count.met} for count in rows] for name, rows in counts.items()}
    text = "\n".join(table(model, counts[model.name], options.size) for model in models)
    met = all(count.met is not False for rows in counts.values() for count in rows)
    return publish(options, figures, text, passed=met)


def _time(options: argparse.Namespace) -> int:
    """Print seconds and memory of a family on a device."""
    from controlnext.bench.cost.seconds import table, time_steps
    from controlnext.device import choose_device

    _set_threads(options.threads)
    model, device = get_model(options.family), choose_device(options.device)
    rows = time_steps(model, device, rounds=options.rounds, size=options.size, compiled=options.compile)
    return publish(options, [asdict(row) for row in rows], table(model, rows, device, options.size))


def _set_threads(threads: int | None) -> None:
    import torch

    from controlnext.device import default_threads

    if threads := threads or default_threads():
        torch.set_num_threads(threads)


def table(timing: Timing, facts: Mapping[str, Any]) -> str:
    """Format the figures as a Markdown table."""
    medians, ratios = timing.medians(), timing.ratios()
    title = "{model}, {adapter}, {width}x{height}, {images} at once, {device} {dtype}, {threads} threads"
    rows = [(label, number(medians[kind], ".1f"), number(ratios[kind])) for kind, label in KINDS.items()]
    return markdown(["step", "ms (median)", "ratio"], rows, title=title.format(**facts))


def measure(options: argparse.Namespace, catalogue: Catalogue | None = None) -> tuple[Timing, dict[str, Any]]:
    """Run the rounds.

    Args:
        options: as `main` parses them.
        catalogue: of the presets; None takes the project's.

    Returns:
        The timing, and what was measured.

    Raises:
        ControlNeXtError: the model or its adapter is not there.
    """
    import torch

    from controlnext.device import choose_device
    from controlnext.engine.engine import Engine
    from controlnext.method.control_cache import ControlCache

    catalogue = catalogue or Catalogue()
    preset = catalogue.preset(options.model)
    catalogue.require(preset)
    adapter = options.adapter or next(iter(preset.adapters), None)
    if adapter is None:
        raise BenchError(f"{preset.title} has no adapter to measure.")
    _set_threads(options.threads)
    device = choose_device(options.device)
    cache = ControlCache()
    engine = Engine.load(preset, device, cache)
    engine.warm()
    values = {"num_inference_steps": options.steps, "num_images": options.num_images, "seed": 0}
    plain = catalogue.resolve(preset.name, **values)
    controlled = catalogue.resolve(preset.name, adapter=adapter, **values)
    noise = np.random.default_rng(0).integers(0, 256, (controlled.height, controlled.width, 3), dtype=np.uint8)
    condition = Image.fromarray(noise)
    timing = Timing({kind: [] for kind in KINDS})
    for turn in range(options.rounds + 1):
        for kind in KINDS:
            if kind == "cold":
                cache.clear()
            recipe = plain if kind == "without" else controlled
            times = _time_steps(engine, recipe, None if kind == "without" else condition)
            if turn:  # the first round only warms up
                timing.steps[kind] += times
    facts = {
        "model": preset.name,
        "adapter": adapter,
        "width": controlled.width,
        "height": controlled.height,
        "images": options.num_images,
        "device": device.name,
        "dtype": str(engine.pipeline.unet.dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "rounds": options.rounds,
        "steps": options.steps,
    }
    return timing, facts


def _time_steps(engine: Engine, recipe: Recipe, condition: Image.Image | None) -> list[float]:
    """Return the milliseconds between the ends of successive steps of one run."""
    import torch

    ends: list[float] = []

    def after_step(preview: Image.Image | None) -> None:  # the preview has copied the latents, so the step is done
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        ends.append(time.perf_counter())

    engine.prepare(recipe, [])
    seeds = [recipe.seed + index for index in range(recipe.num_images)]
    engine.run(recipe, seeds, Inputs.of(condition), after_step)
    return [1000 * (later - earlier) for earlier, later in pairwise(ends)]
