"""`python -m controlnext bench overhead`: what the control costs a denoising step.

With `--family`, a base model at its real size with random weights, beside ControlNet and T2I-Adapter: exact FLOPs, or seconds
and peak memory on a device. Without it, the milliseconds of a preset that is on this machine:

One process, one model, and the three kinds of run in turn, round after round, so that a machine that slows down slows all of
them: without control, with controls computed at each step (cold), and with controls kept from an earlier run (kept).
Only denoising is timed, by the time between steps; text encoding and decoding are the same in all three. The adapter's
UNet weights are in place in the controlled runs and cost nothing.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from controlnext.bench.cost.configs import FAMILIES, get_family
from controlnext.errors import ControlNeXtError
from controlnext.models.catalogue import Catalogue
from controlnext.models.presets import DEFAULT_MODEL
from controlnext.recipes.inputs import Inputs

if TYPE_CHECKING:
    from controlnext.engine.engine import Engine
    from controlnext.recipes.recipe import Recipe

META = "meta"
"""The device on which nothing has content and only shapes are computed."""
KINDS = ("without", "cold", "kept")
_LABELS = {
    "without": "no control",
    "cold": "control computed at each step",
    "kept": "control kept from an earlier run",
}


class BenchError(ControlNeXtError, ValueError):
    """Nothing to measure."""


@dataclass
class Timing:
    """Milliseconds of single steps, by kind of run."""

    steps: dict[str, list[float]]

    def medians(self) -> dict[str, float]:
        """Median milliseconds of a step, by kind."""
        return {kind: statistics.median(self.steps[kind]) for kind in KINDS}

    def ratios(self) -> dict[str, float]:
        """How many times as long a controlled step takes."""
        medians = self.medians()
        return {kind: medians[kind] / medians["without"] for kind in KINDS}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; returns 0."""
    parser = argparse.ArgumentParser(prog="python -m controlnext bench overhead", description=__doc__.splitlines()[0])
    families = ", ".join(FAMILIES)
    parser.add_argument("--family", choices=FAMILIES, metavar="FAMILY", help=f"real size, random weights: {families}")
    parser.add_argument("--size", type=int, help="with --family: short side in pixels (default: the family's own)")
    parser.add_argument("--compile", action="store_true", help="with --family: also measure with torch.compile")
    parser.add_argument("--model", default=DEFAULT_MODEL, help=f"preset (default: {DEFAULT_MODEL})")
    parser.add_argument("--adapter", help="kind of condition (default: the first the model has)")
    parser.add_argument("--rounds", type=int, default=5, help="times each kind is run (default: 5)")
    parser.add_argument("--steps", type=int, default=10, help="denoising steps of a run (default: 10)")
    parser.add_argument("--num-images", type=int, default=1, help="pictures in the batch (default: 1)")
    parser.add_argument(
        "--device", help="cuda, mps or cpu (default: the best there is); meta counts FLOPs (default with --family)"
    )
    parser.add_argument("--threads", type=int, help="CPU threads (default: the studio's choice)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args(arguments)
    if min(options.rounds, options.steps, options.num_images) < 1 or options.steps < 2:
        raise BenchError("There must be at least one round, one picture and two steps to measure.")
    if options.device in (None, META) and (options.family or options.device):
        return _count(options)
    if options.family:
        return _time(options)
    timing, about = measure(options)
    if options.json:
        facts = {**about, "milliseconds": timing.medians(), "ratio": timing.ratios()}
        sys.stdout.write(json.dumps(facts, indent=2) + "\n")
    else:
        sys.stdout.write(table(timing, about))
    return 0


def _count(options: argparse.Namespace) -> int:
    """Print FLOPs of a family, or of all; returns 0 if all bars are met, 1 if not."""
    from controlnext.bench.cost.flops import count_family, table

    facts, met = {}, True
    for family in [get_family(options.family)] if options.family else FAMILIES.values():
        counts = count_family(family, options.size)
        facts[family.name] = [{**asdict(count), "met": count.met} for count in counts]
        met = met and all(count.met is not False for count in counts)
        if not options.json:
            sys.stdout.write(table(family, counts, options.size) + "\n")
            sys.stdout.flush()
    if options.json:
        sys.stdout.write(json.dumps(facts, indent=2) + "\n")
    return 0 if met else 1


def _time(options: argparse.Namespace) -> int:
    """Print seconds and memory of a family on a device; returns 0."""
    import torch

    from controlnext.bench.cost.seconds import table, time_family
    from controlnext.device import choose_device, default_threads

    threads = options.threads or default_threads()
    if threads:
        torch.set_num_threads(threads)
    family, device = get_family(options.family), choose_device(options.device)
    rows = time_family(family, device, rounds=options.rounds, size=options.size, compiled=options.compile)
    if options.json:
        sys.stdout.write(json.dumps([asdict(row) for row in rows], indent=2) + "\n")
    else:
        sys.stdout.write(table(family, rows, device, options.size))
    return 0


def table(timing: Timing, about: dict[str, Any]) -> str:
    """Return the figures as a Markdown table."""
    medians, ratios = timing.medians(), timing.ratios()
    head = "{model}, {adapter}, {width}x{height}, {images} at once, {device} {dtype}, {threads} threads".format(
        **about
    )
    rows = [head, "", "| | ms a step (median) | ratio |", "|---|---|---|"]
    rows += [f"| {_LABELS[kind]} | {medians[kind]:.1f} | {ratios[kind]:.3f} |" for kind in KINDS]
    return "\n".join(rows) + "\n"


def measure(options: argparse.Namespace, catalogue: Catalogue | None = None) -> tuple[Timing, dict[str, Any]]:
    """Run the rounds.

    Args:
        options: as `main` parses them.
        catalogue: where presets are; None takes the project's.

    Returns:
        The timing, and what was measured.

    Raises:
        ControlNeXtError: the model or its adapter is not there.
    """
    import torch

    from controlnext.device import choose_device, default_threads
    from controlnext.engine.engine import Engine
    from controlnext.method.control_cache import ControlCache

    catalogue = catalogue or Catalogue()
    preset = catalogue.preset(options.model)
    catalogue.require(preset)
    adapter = options.adapter or next(iter(preset.adapters), None)
    if adapter is None:
        raise BenchError(f"{preset.title} has no adapter to measure.")
    threads = options.threads or default_threads()
    if threads:
        torch.set_num_threads(threads)
    device = choose_device(options.device)
    cache = ControlCache()
    engine = Engine.load(preset, device, cache)
    engine.warm()
    plain = catalogue.resolve(preset.name, num_inference_steps=options.steps, num_images=options.num_images, seed=0)
    controlled = catalogue.resolve(
        preset.name, adapter=adapter, num_inference_steps=options.steps, num_images=options.num_images, seed=0
    )
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
    about = {
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
    return timing, about


def _time_steps(engine: Engine, recipe: Recipe, condition: Image.Image | None) -> list[float]:
    """Milliseconds between the ends of successive steps of one run."""
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
