"""`python -m controlnext batch JOBS`: many pictures, in one process or spread by `accelerate launch -m controlnext batch`."""

from __future__ import annotations

import argparse
import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import annotators
from annotators.base import AnnotatorError
from controlnext.cli.options import add_picture_options, add_settings_option, given_values, word_folders
from controlnext.cli.pictures import ExtraControl, inputs_of, made_by
from controlnext.cli.terminal import UsageError, note, print_line, stoppable
from controlnext.studio.batch import MAX_ERRORS, BatchSummary, Ledger, Made, run_jobs
from controlnext.studio.batch_jobs import BatchError, Job, read_jobs

if TYPE_CHECKING:
    import threading

    from controlnext.cli.options import Commands
    from controlnext.studio.studio import Studio

_NOT_SHARED = {"version", "condition_sha256", "weights", "seed"}
"""What of a recipe does not hold for other pictures than the one it was made with; a seed has to be asked for."""
_PATIENCE = timedelta(days=7)
"""How long a finished process waits for the others, which may run for hours."""


@dataclass(frozen=True)
class ProcessRank:
    """Rank and device of one of several processes.

    Attributes:
        rank: its number, from 0.
        world: how many there are.
        device: the device it is to use; None leaves it to the studio.
        wait: returns once all have finished, or one has died.
    """

    rank: int = 0
    world: int = 1
    device: str | None = None
    wait: Callable[[], None] = lambda: None


def add_parser(commands: Commands) -> None:
    """Add the command to the others."""
    parser = commands.add_parser(
        "batch", help="make pictures from a folder or a list, and resume where it was stopped"
    )
    parser.add_argument(
        "jobs", type=Path, metavar="JOBS", help="folder of pictures, or JSON lines: image, prompt, ..."
    )
    parser.add_argument("--recipe", type=Path, help="a result (PNG) or a recipe (JSON) to start each job from")
    add_picture_options(parser)
    parser.add_argument(
        "--max-errors", type=int, default=MAX_ERRORS, help=f"failed jobs before it gives up (default: {MAX_ERRORS})"
    )
    add_settings_option(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the jobs.

    Returns:
        Exit status: 0 all are done, 1 some could not be run, 130 stopped.

    Raises:
        ControlNeXtError: the list cannot be read, or the output folder cannot be written to.
    """
    from controlnext.studio.studio import Studio

    if options.max_errors < 0:
        raise UsageError(f"--max-errors is 0 or more, not {options.max_errors}.")
    further = {one.kind: one.image for one in options.control if one.image is not None}
    jobs = read_jobs(options.jobs, _common(options), further)
    ledger = Ledger(options.output)
    ledger.begin()
    place = place_of(options.device)  # after `begin`: all processes have begun before one of them runs a job
    studio = Studio(
        output_dir=options.output,
        lora_dirs=options.lora_dir,
        device=options.device or place.device,
        threads=options.threads,
        annotators=annotators,
        words=word_folders(options),
    )
    with stoppable(signal.SIGINT, signal.SIGTERM) as cancel:
        summary = run_jobs(
            jobs,
            ledger,
            _maker(studio, cancel),
            share=(place.rank, place.world),
            max_errors=options.max_errors,
            cancel=cancel,
            tell=note,
        )
        _report(summary, ledger, place)
        place.wait()
    return 130 if summary.stopped else 1 if summary.failed else 0


def _common(options: argparse.Namespace) -> dict[str, Any]:
    """The values that every job has unless its line says otherwise."""
    from controlnext.recipes.foreign import read_foreign
    from controlnext.recipes.png import read_png
    from controlnext.recipes.recipe import Recipe

    values: dict[str, Any] = {}
    if options.recipe is not None:
        try:
            recipe = read_png(options.recipe)
            foreign = read_foreign(options.recipe) if recipe is None else None
            recipe = recipe or (None if foreign else Recipe.from_json(options.recipe.read_bytes()))
        except OSError as error:
            raise UsageError(f"The recipe {options.recipe} cannot be read: {error.strerror}.") from None
        if foreign is not None:
            note(foreign.sentence())
        said = foreign.values if recipe is None else recipe.model_dump(mode="json")
        values = {name: value for name, value in said.items() if name not in _NOT_SHARED}
        if options.annotator:
            values = {name: value for name, value in values.items() if name not in ("adapter", "annotator_settings")}
    named = {"model": options.model, "annotator": options.annotator}
    return {**values, **{name: value for name, value in named.items() if value}, **given_values(options)}


def _maker(studio: Studio, cancel: threading.Event) -> Callable[[Job, int, Path], Made]:
    """Return what runs one job on a studio."""
    from controlnext.results.gallery import Gallery

    def make(job: Job, seed: int, folder: Path) -> Made:
        values = dict(job.values)
        model = values.pop("model", None) or "starter"
        named = values.pop("annotator", None) or None, values.pop("adapter", None) or None
        annotator, values["adapter"] = made_by(*named, job.image)
        if values.get("seed") in (None, -1):
            values["seed"] = seed  # drawn from the job itself, so that a repeated job makes the same picture
        try:
            recipe = studio.catalogue.resolve(model, annotator, **_without_place(values))
            inputs = inputs_of(
                job.image, recipe, [ExtraControl(kind, image=path) for kind, path in job.further.items()]
            )
        except AnnotatorError as error:
            raise BatchError(str(error)) from error
        studio.gallery = Gallery(folder)
        result = studio.generate(recipe, inputs, cancel=cancel)
        facts = {
            "recipe": result.recipe.model_dump(mode="json"),
            "adherence": result.adherence,
            "adherence_name": result.adherence_name,
            "seconds": round(result.seconds, 3),
            "notes": list(result.notes),
        }
        return Made(result.files, result.seeds, facts, result.stopped)

    return make


def _without_place(values: Mapping[str, Any]) -> dict[str, Any]:
    """Drop what a row taken over from a manifest says about its own run."""
    return {name: value for name, value in values.items() if name not in ("version", "condition_sha256", "weights")}


def place_of(device: str | None) -> ProcessRank:
    """Find out which of several processes this is; `accelerate launch` and `torchrun` say so in the environment."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return ProcessRank()
    import torch
    from accelerate import PartialState

    # Explicit, since accelerate does not choose the CPU by itself for several processes on a machine without a GPU.
    on_cpu = device == "cpu" or not torch.cuda.is_available()
    state = PartialState(cpu=on_cpu, timeout=_PATIENCE)

    def wait() -> None:
        try:
            state.wait_for_everyone()
        except RuntimeError:  # another process died; what it left is run next time
            return
        torch.distributed.destroy_process_group()

    return ProcessRank(state.process_index, state.num_processes, str(state.device), wait)


def _report(summary: BatchSummary, ledger: Ledger, place: ProcessRank) -> None:
    who = f"Process {place.rank + 1} of {place.world}: " if place.world > 1 else ""
    before = f", {summary.skipped} were done before" if summary.skipped else ""
    print_line(
        f"{who}{summary.done} done{before}, {len(summary.failed)} failed; see {ledger.output / 'manifest.jsonl'}"
    )
    for label, reason in summary.failed:
        note(f"{label}: {reason}")
    if summary.gave_up:
        note("Too many jobs failed, so it gave up; correct them, or allow more with --max-errors.")
    if summary.stopped:
        note("Stopped; the same command resumes with what is left.")
