"""`python -m controlnext sweep`: one recipe at several values of one or two axes, in one process or spread by `accelerate launch`."""

from __future__ import annotations

import argparse
import json
import signal
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from controlnext.cli import generate, pictures
from controlnext.cli.batch import place_of
from controlnext.cli.options import add_picture_options, add_settings_option, word_folders
from controlnext.cli.terminal import UsageError, clear_progress, note, print_line, show_progress, stoppable
from controlnext.recipes.inputs import Inputs
from controlnext.recipes.sweep_plan import SweepAxis, SweepPlan, shown
from controlnext.results.sweep_pictures import cell_text

if TYPE_CHECKING:
    import threading

    from controlnext.cli.batch import ProcessRank
    from controlnext.cli.options import Commands
    from controlnext.recipes.recipe import Recipe
    from controlnext.studio.studio import Result, Studio
    from controlnext.studio.sweep import InputsFor, Sweep


def add_parser(commands: Commands) -> None:
    """Add the command to the others."""
    parser = commands.add_parser("sweep", help="one recipe at several values: grid, curve, knee; resumes")
    parser.add_argument(
        "--axis", action="append", type=_axis, metavar="NAME=VALUES", default=[],
        help="gamma, seed, num_inference_steps, guidance_scale, alpha, control_start, control_end, model, annotator or lora:NAME; "
        "values with commas or first:last:count; at most two (default: gamma=0:1.5:7)",
    )  # fmt: skip
    parser.add_argument("--target", type=float, help="search the gamma of this adherence instead, in at most six runs")
    parser.add_argument(
        "--distance", action=argparse.BooleanOptionalAction, help="compare each picture with the one without control"
    )
    parser.add_argument("--image", type=Path, help="picture to take the condition from")
    parser.add_argument(
        "--recipe", type=Path, help="a sweep (sweep.json), a result (PNG) or a recipe (JSON) to start from"
    )
    add_picture_options(parser)
    pictures.add_options(parser)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    add_settings_option(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Make what is left of the sweep, and print its table.

    Returns:
        Exit status: 0 all is done, 1 some pictures cannot be made, 130 stopped.
    """
    import annotators
    from controlnext.models.defaults import own_loras_fit
    from controlnext.studio.studio import Studio
    from controlnext.studio.sweep import Sweep, with_own_seed

    before = _saved_plan(options.recipe)
    studio = Studio(output_dir=options.output, lora_dirs=options.lora_dir, annotators=annotators)
    if options.lora is None and options.recipe is None and not own_loras_fit(axis.name for axis in options.axis):
        options.lora = []
    recipe, kept = generate.recipe_of(options, studio, before.recipe if before else None)
    there = dict(zip([control.condition_kind for control in recipe.all_controls], kept.conditions, strict=False))
    inputs = pictures.with_start(pictures.inputs_of(options.image, recipe, options.control, there), options, kept)
    if options.target is not None:
        return _search(options, studio, recipe, inputs)
    if options.seed == -1 or (options.seed is None and options.recipe is None):
        recipe = with_own_seed(recipe, inputs)
    axes = tuple(options.axis) or (before.axes if before else (_axis("gamma=0:1.5:7"),))
    distance = options.distance if options.distance is not None else before.distance if before else None
    sweep = Sweep.open(SweepPlan(recipe, axes, distance), inputs, options.output, studio.catalogue)
    sweep.begin()
    place = place_of(options.device)  # after `begin`: all processes have begun before one of them draws
    studio = Studio(
        output_dir=options.output,
        lora_dirs=options.lora_dir,
        device=options.device or place.device,
        threads=options.threads,
        annotators=annotators,
        words=word_folders(options),
    )
    with stoppable(signal.SIGINT, signal.SIGTERM) as cancel:
        status = _run(sweep, studio, _inputs_for(options, recipe, inputs), place, cancel)
        place.wait()
    if place.rank == 0:
        sweep.write()
        _print(sweep, as_json=options.json)
    return status


def _run(sweep: Sweep, studio: Studio, inputs_for: InputsFor, place: ProcessRank, cancel: threading.Event) -> int:
    def draw(recipe: Recipe, inputs: Inputs) -> Result:
        result = studio.generate(recipe, inputs, on_progress=show_progress, cancel=cancel)
        clear_progress()
        return result

    summary = sweep.run(draw, inputs_for, share=(place.rank, place.world), cancel=cancel, tell=note)
    if summary.stopped:
        note("Stopped; the same command resumes with what is left.")
    return 130 if summary.stopped else 1 if summary.failed else 0


def _search(options: argparse.Namespace, studio: Studio, recipe: Recipe, inputs: Inputs) -> int:
    from controlnext.studio.auto_gamma import find_gamma
    from controlnext.studio.studio import Studio

    studio = Studio(
        output_dir=options.output, lora_dirs=options.lora_dir, device=options.device, threads=options.threads, annotators=studio.annotators,
        words=word_folders(options),
    )  # fmt: skip
    place = place_of(options.device)
    if place.rank:  # one run needs the one before, so that one process does it all
        place.wait()
        return 0
    with stoppable(signal.SIGINT, signal.SIGTERM) as cancel:

        def draw(gamma: float) -> tuple[float | None, Result]:
            one = recipe.replace(gamma=gamma, gamma_curve="", num_images=1)
            result = studio.generate(one, inputs, on_progress=show_progress, cancel=cancel)
            clear_progress()
            return result.adherence[0], result

        try:
            found = find_gamma(draw, options.target)
        finally:
            place.wait()
    if options.json:
        tries = [
            {"gamma": one.gamma, "adherence": one.adherence, "file": str(one.made.files[0])} for one in found.tries
        ]
        print_line(json.dumps({"gamma": found.chosen.gamma, "reached": found.reached, "tries": tries}, indent=2))
        return 0 if found.reached else 1
    for one in found.tries:
        print_line(f"{one.made.files[0]}  gamma {one.gamma:g}  adherence {one.adherence:.2f}")
    print_line(found.sentence())
    return 0 if found.reached else 1


def _saved_plan(path: Path | None) -> SweepPlan | None:
    """The sweep in a file; None where it is a recipe."""
    if path is None or path.suffix.lower() != ".json":
        return None
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"The recipe {path} cannot be read: {error.strerror}.") from None
    return SweepPlan.from_json(data) if b'"controlnext_sweep"' in data else None


def _inputs_for(options: argparse.Namespace, asked: Recipe, inputs: Inputs) -> InputsFor:
    def make(recipe: Recipe) -> Inputs:
        same = (recipe.condition_kind, recipe.width, recipe.height) == (
            asked.condition_kind,
            asked.width,
            asked.height,
        )
        if same or not recipe.all_controls:
            return inputs
        if options.image is None:
            raise UsageError("Another kind of control is read from a picture; give it with --image.")
        return replace(inputs, conditions=pictures.inputs_of(options.image, recipe, options.control).conditions)

    return make


def _axis(text: str) -> SweepAxis:
    name, _, values = text.partition("=")
    try:
        return SweepAxis.parse(name.strip(), values)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _print(sweep: Sweep, *, as_json: bool) -> None:
    table = sweep.table()
    if as_json:
        found, computed, seconds = table.saved
        saved = {"found": found, "computed": computed, "seconds": seconds}
        print_line(
            json.dumps(
                {"cells": table.rows(), "knee": table.knee, "saved": saved, "folder": str(sweep.folder)}, indent=2
            )
        )
        return
    for cell in table.cells:
        values = "  ".join(f"{name} {shown(value)}" for name, value in cell.values.items())
        mark = "  knee" if table.knee is not None and cell.values[table.axes[0].name] == table.knee else ""
        print_line(f"{values}  {cell.reason or cell_text(cell)}{mark}")
    print_line(f"{table.done} of {len(table.cells)} pictures; see {sweep.folder}")
    if saved_text := table.saved_text():
        print_line(saved_text)
