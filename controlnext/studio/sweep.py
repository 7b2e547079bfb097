"""Sweeps: the cells of a plan as jobs of a batch, so that they can be stopped, resumed and shared by processes."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from controlnext.errors import ControlNeXtError, StudioError
from controlnext.models.catalogue import RANDOM_SEEDS
from controlnext.models.defaults import for_another_model
from controlnext.progress import Cancelled
from controlnext.recipes.inputs import Inputs, fitted_start, picture_of
from controlnext.recipes.recipe import Recipe
from controlnext.recipes.sweep_plan import SweepCell, SweepPlan, without_control
from controlnext.results.saved_sweeps import FOLDER, GRID, PLAN, PLOT, TABLE
from controlnext.results.sweep_pictures import draw_grid, draw_plot
from controlnext.results.sweep_table import SweepTable, SweptCell, cache_use, picture_distance
from controlnext.scratch import unfinished
from controlnext.studio.batch import BatchSummary, Ledger, Made, run_jobs
from controlnext.studio.batch_jobs import Job
from controlnext.studio.prepare import bounded

if TYPE_CHECKING:
    from controlnext.studio.studio import Result

logger = logging.getLogger(__name__)

Draw = Callable[[Recipe, Inputs], "Result"]
"""Runs one recipe, as `Studio.generate`."""

InputsFor = Callable[[Recipe], Inputs]
"""Makes the pictures that a recipe is run with."""


class SweepCatalogue(Protocol):
    """What a sweep asks of the models."""

    def resolve(self, model: str, annotator: str, **values: object) -> Recipe:
        """Make a recipe of what is given and a model's defaults."""

    def weights(self, recipe: Recipe) -> dict[str, str]:
        """Return the digests of the files that a recipe uses."""


@dataclass
class Sweep:
    """A plan in a folder of its own.

    Attributes:
        plan: what is swept.
        folder: where its pictures and files are.
        catalogue: the models.
        cells: the cells of the plan, with the recipes that are run.
        jobs: one for each different recipe, the pictures without control last.
    """

    plan: SweepPlan
    folder: Path
    catalogue: SweepCatalogue
    cells: tuple[SweepCell, ...] = ()
    jobs: tuple[Job, ...] = ()
    _of_cell: dict[int, int] = field(default_factory=dict)
    _reference: dict[int, int] = field(default_factory=dict)
    _ledger: Ledger | None = None
    _distances: dict[tuple[Path, Path], float] = field(default_factory=dict)

    @classmethod
    def open(cls, plan: SweepPlan, inputs: Inputs, output_dir: Path, catalogue: SweepCatalogue) -> Sweep:
        """Name the folder of a sweep, which is the same for the same recipe, pictures and kinds of axes; nothing is written.

        Args:
            plan: what is swept.
            inputs: the pictures of its recipe.
            output_dir: the folder of all results.
            catalogue: the models.
        """
        recipe = with_pictures(plan.recipe, inputs)
        plan = SweepPlan(recipe, plan.axes, plan.distance)
        names = "-".join(axis.name.replace("lora:", "") for axis in plan.axes)
        clean = "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in names)[:60]
        sweep = cls(plan, output_dir / FOLDER / f"{clean}-{plan.digest()[:12]}", catalogue)
        sweep._lay_out()
        return sweep

    def _lay_out(self) -> None:
        self.cells = tuple(self._resolved(cell) for cell in self.plan.cells())
        jobs: dict[str, Job] = {}
        for index, cell in enumerate(self.cells):
            if cell.recipe is not None:
                self._of_cell[index] = self._job(jobs, cell.recipe, cell.label, cell.label)
        for index, cell in enumerate(self.cells):
            if cell.recipe is None or not self.plan.measures_distance:
                continue
            self._reference[index] = self._job(
                jobs, without_control(cell.recipe), f"{cell.label} without control", "without-control"
            )
        self.jobs = tuple(jobs.values())

    def _job(self, jobs: dict[str, Job], recipe: Recipe, label: str, stem: str) -> int:
        """Return the number of the job that makes a recipe, a new one if there is none yet."""
        key = recipe.digest()
        if key not in jobs:
            try:
                weights, problem = self.catalogue.weights(recipe), ""
            except ControlNeXtError as error:
                weights, problem = {}, str(error)
            # With the weights, so that pictures of weights that were replaced since are made again.
            values = {"model": recipe.model, "recipe": json.loads(recipe.to_json()), "weights": weights}
            jobs[key] = Job(label, len(jobs), values=values, problem=problem, stem=stem)
        return jobs[key].number

    def _resolved(self, cell: SweepCell) -> SweepCell:
        """Give a cell of another model that model's own size, steps, guidance and strength, as far as they are no axes."""
        recipe = cell.recipe
        if recipe is None or recipe.model == self.plan.recipe.model:
            return cell
        own = {
            "width",
            "height",
            "num_inference_steps",
            "guidance_scale",
            "gamma",
            "scheduler",
            "resolution",
            "version",
            "weights",
        }
        own -= {axis.name for axis in self.plan.axes}
        values = for_another_model(
            {name: value for name, value in recipe.model_dump().items() if name not in own | {"model", "annotator"}},
            keep={axis.name for axis in self.plan.axes},
        )
        try:
            recipe = self.catalogue.resolve(recipe.model, recipe.annotator, **{**values, "condition_sha256": ""})
        except ControlNeXtError as error:
            return SweepCell(cell.column, cell.row, cell.values, None, str(error))
        return SweepCell(cell.column, cell.row, cell.values, recipe)

    def run(
        self,
        draw: Draw,
        inputs_for: InputsFor,
        *,
        share: tuple[int, int] = (0, 1),
        cancel: threading.Event | None = None,
        tell: Callable[[str], None] = logger.info,
    ) -> BatchSummary:
        """Make what is left.

        Args:
            draw: runs one recipe.
            inputs_for: makes the pictures of a recipe; called in the order of the cells.
            share: number of this process and how many there are.
            cancel: stops after the current step once it is set.
            tell: called with a line about every picture.

        Raises:
            BatchError: the folder cannot be written to.
        """
        ledger = self.begin()
        for job in self.jobs:  # pictures that somebody deleted are made again
            record = ledger.folder / f"{job.digest()}.json"
            if any(not (self.folder / name).is_file() for name in _read(ledger.folder, job.digest()).get("files", [])):
                record.unlink(missing_ok=True)
        _write(self.folder / PLAN, self.plan.to_json().encode())

        def make(job: Job, seed: int, folder: Path) -> Made:
            recipe = Recipe(**job.values["recipe"])
            try:
                result = draw(recipe, inputs_for(recipe))
            except ControlNeXtError as error:
                if cancel is not None and cancel.is_set():  # asked for, so no failure
                    raise Cancelled(str(error)) from error
                raise
            if not result.files:
                raise StudioError("No picture was made.")
            facts = {
                "recipe": json.loads(result.recipe.to_json()),
                "seed": result.seeds[0],
                "adherence": result.adherence[0],
                "adherence_name": result.adherence_name,
                "seconds": round(result.seconds, 3),
                "cache": list(result.cache or ()),
            }
            return Made(result.files, result.seeds, facts)

        return run_jobs(self.jobs, ledger, make, share=share, max_errors=len(self.jobs), cancel=cancel, tell=tell)

    def begin(self) -> Ledger:
        """Make the folder, and count failures from now on, if that was not done before; several processes do it before any of them draws.

        Raises:
            BatchError: the folder cannot be written to.
        """
        if self._ledger is None:
            ledger = self.ledger()
            ledger.begin()
            self._ledger = ledger
        return self._ledger

    def ledger(self) -> Ledger:
        """Return the state of the jobs."""
        return self._ledger or Ledger(self.folder)

    @property
    def left(self) -> int:
        """Pictures that are not made yet."""
        ledger = self.ledger()
        return sum(not ledger.done(job.digest()) for job in self.jobs)

    def table(self) -> SweepTable:
        """Return the figures of all cells, as far as they are made."""
        ledger = self.ledger()
        records = [_read(ledger.folder, job.digest()) for job in self.jobs]
        cells = tuple(self._swept(index, cell, records) for index, cell in enumerate(self.cells))
        name = next((str(one["adherence_name"]) for one in records if one.get("adherence_name")), "adherence")
        alone = set(self._reference.values()) - set(self._of_cell.values())
        return SweepTable(self.plan.axes, cells, name, tuple(cache_use(records[number]) for number in sorted(alone)))

    def _swept(self, index: int, cell: SweepCell, records: list[Mapping[str, Any]]) -> SweptCell:
        place = cell.column, cell.row, cell.values
        if index not in self._of_cell:
            return SweptCell(*place, "failed", reason=cell.problem)
        record = records[self._of_cell[index]]
        if "files" not in record:
            reason = str(record.get("reason", ""))
            return SweptCell(*place, "failed" if reason else "left", reason=reason)
        file, distance = self.folder / record["files"][0], None
        if not file.is_file():
            return SweptCell(*place, "left")
        other = records[self._reference[index]] if index in self._reference else {}
        if other.get("files") and (self.folder / other["files"][0]).is_file():
            pair = file, self.folder / other["files"][0]  # named by their content, so that it never changes
            if pair not in self._distances:
                self._distances[pair] = picture_distance(*pair)
            distance = self._distances[pair]
        facts = {name: record[name] for name in ("seed", "adherence", "seconds", "recipe")}
        return SweptCell(*place, "done", file, distance=distance, cache=cache_use(record), **facts)

    def write(self) -> dict[str, Path]:
        """Write grid, plot and table of what is there.

        Returns:
            Paths by the names `sweep.json`, `sweep.csv`, `grid.png` and `plot.png`.
        """
        import io

        table = self.table()
        _write(self.folder / TABLE, table.csv().encode())
        for name, image in ((GRID, draw_grid(table)), (PLOT, draw_plot(table))):
            data = io.BytesIO()
            image.save(data, "PNG")
            _write(self.folder / name, data.getvalue())
        return {name: self.folder / name for name in (PLAN, TABLE, GRID, PLOT)}


def with_own_seed(recipe: Recipe, inputs: Inputs) -> Recipe:
    """Return a recipe whose seed is drawn from all else in it, so that a sweep without a seed is the same in every process and run.

    Args:
        recipe: its seed is not looked at.
        inputs: its pictures.
    """
    unseeded = with_pictures(recipe.replace(seed=0), inputs)
    return recipe.replace(seed=int(unseeded.digest()[:8], 16) % RANDOM_SEEDS)


def with_pictures(recipe: Recipe, inputs: Inputs) -> Recipe:
    """Return a recipe that names its pictures by their content, in the size to be made."""
    from controlnext.adherence.measure import fitted

    size, controls = (recipe.width, recipe.height), recipe.all_controls
    if len(controls) != len(inputs.conditions):
        return recipe  # the run says what is missing
    conditions = tuple(
        fitted(one, control.condition_kind, size, crop=recipe.crop).image
        for one, control in zip(inputs.conditions, controls, strict=True)
    )
    start = fitted_start(inputs, size, crop=recipe.crop)
    return recipe.with_digests(Inputs(tuple(map(picture_of, conditions)), *start, reference=bounded(inputs.reference)))


def _read(folder: Path, digest: str) -> Mapping[str, Any]:
    for ending in ("json", "failed"):
        try:
            record = json.loads((folder / f"{digest}.{ending}").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(record, dict):
            return record
    return {}


def _write(path: Path, data: bytes) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = unfinished(path.parent, path.suffix)
    try:
        partial.write_bytes(data)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
