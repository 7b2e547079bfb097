"""Handlers of the sweep on the image tab."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import gradio as gr

from controlnext.progress import Progress
from controlnext.recipes.inputs import Inputs
from controlnext.recipes.recipe import LoraUse
from controlnext.recipes.sweep_plan import LORA, SweepAxis, SweepError, SweepPlan, Value, shown, usual_values
from controlnext.results.saved_sweeps import SavedSweep
from controlnext.studio.conditions import condition_of
from controlnext.studio.sweep import InputsFor, Sweep, with_pictures
from controlnext.ui.image.events import RUN, STOPPED, ImageEvents
from controlnext.ui.image.loras import NO_LORA
from controlnext.ui.image.restore import Restore, stretched
from controlnext.ui.image.sweep import LORA_AXIS, NO_AXIS, SweepArea
from controlnext.ui.image.sweep_view import SweepView, use_label, words_of
from controlnext.ui.image.tab import GAMMA_MAXIMUM, GUIDANCE_MAXIMUM, STEPS_MAXIMUM
from controlnext.ui.shared import (
    PRIVATE,
    Data,
    Updates,
    note_html,
    open_picture,
    progress_html,
    reported_errors,
    waiting_html,
)
from controlnext.ui.sweep_api import axis_names
from controlnext.ui.sweep_run import run_search, run_sweep
from controlnext.ui.worker import Runs
from controlnext.ui.working import working

if TYPE_CHECKING:
    from controlnext.recipes.recipe import Recipe

MAKERS = {"annotator", "adapter", "annotator_settings", "resolution", "pose", "weights", "version"}
"""Fields of a recipe that say where its condition came from, or what the program was; the pixels do not depend on them."""


class SweepEvents:
    """The handlers of the area."""

    def __init__(self, area: SweepArea, image: ImageEvents) -> None:
        """Remember the parts; `wire` connects them.

        Args:
            area: the components.
            image: handlers of the tab, which know the recipe of the page.
        """
        self.area, self.image, self.tab, self.runs = area, image, image.tab, Runs()
        self.view = SweepView(area)

    def wire(self) -> None:
        """Connect the components; must be called inside the `gr.Blocks` context of the tab."""
        area, tab = self.area, self.tab
        everything = tab.inputs() | area.inputs()
        shown_parts = self.view.outputs()
        for axis, values in ((area.axis, area.values), (area.second_axis, area.second_values)):
            axis.input(self.usual, [axis, tab.model, tab.seed], values, queue=False, **PRIVATE)
        area.start.click(self.run, everything, shown_parts, trigger_mode="once", **RUN, **PRIVATE)
        area.auto.click(
            self.search, everything, [*shown_parts, tab.gamma, tab.new_seed], trigger_mode="once", **RUN, **PRIVATE
        )
        area.stop.click(self.stop, None, [area.stop, area.progress], queue=False, **PRIVATE)
        area.grid.select(self.choose, area.cells, [area.chosen, area.use], queue=False, **PRIVATE)
        area.use.click(
            self.use, {area.cells, area.chosen, tab.model, tab.annotator, *(part for row in tab.loras for part in row)},
            self._used(), **PRIVATE,
        )  # fmt: skip

    def _used(self) -> set[gr.components.Component]:
        tab = self.tab
        parts = {
            tab.gamma,
            tab.seed,
            tab.new_seed,
            tab.steps,
            tab.guidance,
            tab.alpha,
            tab.control_start,
            tab.control_end,
            tab.model,
            tab.annotator,
        }
        return parts | set(self.image.model_outputs()) | {part for row in tab.loras for part in row} | {self.area.note}

    def usual(self, axis: str, model: str, seed: int | None) -> str:
        """Return the usual values of an axis, for the field next to it."""
        if axis == NO_AXIS:
            return ""
        with reported_errors():
            recipe = self.image.studio.catalogue.resolve(model, seed=0 if seed is None else seed)
            names = axis_names(self.image.studio, axis, model)
        return ", ".join(shown(value) for value in usual_values(axis, recipe, names))

    def run(self, data: Data, request: gr.Request) -> Iterator[Updates]:
        """Make the sweep of what the page shows; the same settings resume one that was stopped."""
        yield from self._working(request, lambda cancel: self._sweep(data, request, cancel))

    def search(self, data: Data, request: gr.Request) -> Iterator[Updates]:
        """Search the gamma that reaches the wished adherence, and put it into the page."""
        yield from self._working(request, lambda cancel: self._search(data, request, cancel))

    def _working(
        self, request: gr.Request, work: Callable[[threading.Event], Generator[Updates, None, Updates]]
    ) -> Iterator[Updates]:
        stopped: Updates = {self.area.progress: note_html(STOPPED, "quiet")}
        yield from working(self.runs, request.session_hash or "", work, idle=self.view.idle(), stopped=stopped)

    def _sweep(self, data: Data, request: gr.Request, cancel: threading.Event) -> Generator[Updates, None, Updates]:
        yield self.view.busy()
        recipe, inputs = self._asked(data)
        studio, plan = self.image.studio, self._plan(data, recipe, inputs)
        sweep = Sweep.open(plan, inputs, studio.gallery.output_dir, studio.catalogue)
        self.image.made.add(request.session_hash or "", [sweep.folder])
        made, saved = -1, None
        for report in run_sweep(sweep, self.image.stream, self._inputs_for(data, recipe, inputs), cancel):
            if not isinstance(report, Progress):
                saved = report
                continue
            updates: Updates = {self.area.progress: progress_html(replace(report, preview=None))}
            if (done := len(sweep.jobs) - sweep.left) != made:
                made = done
                updates |= self.view.grid(sweep.table())
            yield updates
        if saved is None:
            return {self.area.progress: note_html(STOPPED, "quiet")}
        return self.view.done(saved, stopped=cancel.is_set())

    def _search(self, data: Data, request: gr.Request, cancel: threading.Event) -> Generator[Updates, None, Updates]:
        yield self.view.busy()
        recipe, inputs = self._asked(data)
        for report in run_search(recipe, inputs, data[self.area.target], self.image.stream, cancel):
            if isinstance(report, Progress):
                yield {self.area.progress: progress_html(replace(report, preview=None))}
                continue
            self.image.made.add(request.session_hash or "", [one.made.files[0] for one in report.tries])
            gamma = stretched(report.chosen.gamma, GAMMA_MAXIMUM)
            return self.view.found(report) | {self.tab.gamma: gamma, self.tab.new_seed: False}
        return {self.area.progress: note_html(STOPPED, "quiet")}

    def outputs(self) -> list[gr.components.Component]:
        """Return what a sweep that is opened again changes, besides the settings of its recipe."""
        area = self.area
        own = [area.axis, area.values, area.second_axis, area.second_values, area.fold, area.origin]
        return [*self.view.outputs(), *own]

    def reopened(self, saved: SavedSweep, restore: Restore) -> Updates:
        """Put a saved sweep into the page: the settings of its recipe, its axes, its grid and its plot.

        Args:
            saved: the sweep.
            restore: puts recipes into the page.
        """
        recipe, axes = saved.plan.recipe, saved.plan.axes
        for name in [axis.name.removeprefix(LORA) for axis in axes if axis.name.startswith(LORA)]:
            uses = {use.name: use for use in recipe.loras}  # the LoRA that an axis means is the first
            first = uses.pop(name, LoraUse(name=name))
            recipe = recipe.replace(loras=[first, *uses.values()])
        like = {"annotator": recipe.condition_kind, "model": recipe.model}
        cells = [cell for cell in saved.table.cells if cell.file is not None]
        alike = [cell for cell in cells if all(cell.values.get(name, value) == value for name, value in like.items())]
        file = (alike or cells)[0].file if cells else None
        updates = restore.put(recipe, file) | self.view.axes(axes) | self.view.done(saved, stopped=False)
        return updates | {self.area.fold: gr.update(open=True), self.area.origin: saved.plan.to_json()}

    def stop(self, request: gr.Request) -> list[Any]:
        """Stop after the current step; the same sweep resumes."""
        running = self.runs.stop(request.session_hash or "")
        return [gr.update(interactive=False), waiting_html("Stopping after this step") if running else ""]

    def choose(self, cells: list[Mapping[str, Any]], event: gr.SelectData) -> list[Any]:
        """Take the picture that was clicked."""
        if not 0 <= event.index < len(cells):
            return [-1, gr.update(interactive=False)]
        return [event.index, gr.update(value=use_label(cells[event.index]["values"]), interactive=True)]

    def use(self, data: Data) -> Updates:
        """Put the values of the chosen picture into the page, with its seed."""
        area, tab, cells, chosen = self.area, self.tab, data[self.area.cells], data[self.area.chosen]
        with reported_errors():
            if not 0 <= chosen < len(cells):
                raise SweepError("Click a picture of the sweep first.")
            cell = cells[chosen]
            updates: Updates = {tab.seed: cell["seed"], tab.new_seed: False}
            values = dict(cell["values"])
            if "model" in values:
                defaults = self.image.model_defaults(values["model"], values.get("annotator", data[tab.annotator]))
                updates |= dict(zip(self.image.model_outputs(), defaults, strict=True))
                updates[tab.model] = {**updates[tab.model], "value": values.pop("model")}
            for name, value in values.items():
                updates |= self._put(name, value, data)
        return updates | {
            area.note: note_html(f"{words_of(cell['values'])} is in the page; Generate makes this picture.", "quiet")
        }

    def _put(self, name: str, value: Value, data: Data) -> Updates:
        tab = self.tab
        ends = {"gamma": (tab.gamma, GAMMA_MAXIMUM), "num_inference_steps": (tab.steps, STEPS_MAXIMUM), "guidance_scale": (tab.guidance, GUIDANCE_MAXIMUM)}  # fmt: skip
        if name in ends:
            return {ends[name][0]: stretched(value, ends[name][1])}
        if name.startswith(LORA):
            wanted = name.removeprefix(LORA)
            rows = [row for row in tab.loras if data[row[0]] == wanted] or [
                row for row in tab.loras if data[row[0]] in (None, NO_LORA)
            ]
            return {rows[0][0]: wanted, rows[0][1]: value} if rows else {}
        return {getattr(tab, name): value}

    def _asked(self, data: Data) -> tuple[Recipe, Inputs]:
        """Return recipe and pictures of the page: the seed that it shows, and one picture."""
        data = {**data, self.tab.new_seed: False, self.tab.count: 1}
        return self.image.recipe(data), self.image.inputs(data)

    def _plan(self, data: Data, recipe: Recipe, inputs: Inputs) -> SweepPlan:
        area = self.area
        axes = [self._axis(data[area.axis], data[area.values], recipe)]
        if data[area.second_axis] != NO_AXIS:
            axes.append(self._axis(data[area.second_axis], data[area.second_values], recipe))
        if data[area.origin]:
            recipe = _original(SweepPlan.from_json(data[area.origin]).recipe, with_pictures(recipe, inputs), axes)
        return SweepPlan(recipe, tuple(axes))

    def _axis(self, name: str, text: str, recipe: Recipe) -> SweepAxis:
        if name == LORA_AXIS:
            if not recipe.loras:
                raise SweepError("Choose a LoRA first: its weight is what changes.")
            name = f"{LORA}{recipe.loras[0].name}"
        return SweepAxis.parse(name, text or "")

    def _inputs_for(self, data: Data, asked: Recipe, inputs: Inputs) -> InputsFor:
        """Return what makes the pictures of a cell: those of the page, or a new condition where its kind or size differs."""
        tools, path = self.image.studio.annotators, data[self.tab.picture]

        def make(recipe: Recipe) -> Inputs:
            same = (recipe.condition_kind, recipe.width, recipe.height) == (
                asked.condition_kind,
                asked.width,
                asked.height,
            )
            if same or not recipe.all_controls:
                return inputs
            if path is None:
                raise SweepError("Another kind of control is read from a picture: drop one in first.")
            first = condition_of(tools, open_picture(tools, path), recipe.all_controls[0], recipe).annotation
            return replace(inputs, conditions=(first, *inputs.conditions[1:]))

        return make


def _original(origin: Recipe, asked: Recipe, axes: Sequence[SweepAxis]) -> Recipe:
    """Return the recipe of a sweep that was opened again if the page still shows it, so that its pictures are found.

    The page then has the condition as a ready-made map, which makes the same pixels by a recipe that is worded differently.
    """
    if any(axis.name == "annotator" for axis in axes):
        return asked
    pair = []
    for recipe in (origin, asked):
        for axis in axes:
            recipe = axis.applied(recipe, axis.values[0])
        fields = {name: value for name, value in recipe.model_dump().items() if name not in MAKERS}
        pair.append((fields, recipe.condition_kind))
    return origin if pair[0] == pair[1] else asked
