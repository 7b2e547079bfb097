"""Handlers of the sweep on the image tab."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from html import escape
from io import BytesIO
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio import processing_utils

from controlnext.progress import Progress
from controlnext.recipes.inputs import Inputs
from controlnext.recipes.sweep_plan import LORA, SweepAxis, SweepError, SweepPlan, Value, shown, usual_values
from controlnext.studio.conditions import condition_of
from controlnext.studio.sweep import PLAN, PLOT, TABLE, InputsFor, Sweep
from controlnext.ui import shared
from controlnext.ui.image.events import RUN, STOPPED, ImageEvents
from controlnext.ui.image.loras import NO_LORA
from controlnext.ui.image.restore import stretched
from controlnext.ui.image.sweep import LORA_AXIS, NO_AXIS, SweepArea
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

if TYPE_CHECKING:
    from pathlib import Path

    from controlnext.recipes.recipe import Recipe
    from controlnext.results.sweep_table import SweepTable, SweptCell
    from controlnext.studio.auto_gamma import FoundGamma
    from controlnext.studio.studio import Result

MOST_COLUMNS = 4
"""Columns of the grid where there is one axis; with two, each value of the first has its own."""


class SweepEvents:
    """The handlers of the area."""

    def __init__(self, area: SweepArea, image: ImageEvents) -> None:
        """Remember the parts; `wire` connects them.

        Args:
            area: the components.
            image: handlers of the tab, which know the recipe of the page.
        """
        self.area, self.image, self.tab, self.runs = area, image, image.tab, Runs()

    def wire(self) -> None:
        """Connect the components; must be called inside the `gr.Blocks` context of the tab."""
        area, tab = self.area, self.tab
        everything = tab.inputs() | area.inputs()
        shown_parts = [
            area.start, area.auto, area.stop, area.progress, area.plot, area.grid, area.note, area.use, area.save_csv, area.save_zip,
            area.save_plan, area.cells, area.chosen,
        ]  # fmt: skip
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
        area, session = self.area, request.session_hash or ""
        cancel = self.runs.start(session)
        idle = self._idle()
        try:
            with reported_errors():
                yield self._busy()
                recipe, inputs = self._asked(data)
                sweep = Sweep.open(
                    self._plan(data, recipe), inputs, self.image.studio.gallery.output_dir, self.image.studio.catalogue
                )
                made = -1
                for report in run_sweep(sweep, self.image.stream, self._inputs_for(data, recipe, inputs), cancel):
                    if not isinstance(report, Progress):
                        continue
                    updates: Updates = {area.progress: progress_html(replace(report, preview=None))}
                    if (done := len(sweep.jobs) - sweep.left) != made:
                        made = done
                        updates |= self._grid(sweep.table())
                    yield updates
                yield idle | self._done(sweep, stopped=cancel.is_set())
        except gr.Error:
            yield idle
            raise
        finally:
            self.runs.finish(session, cancel)

    def search(self, data: Data, request: gr.Request) -> Iterator[Updates]:
        """Search the gamma that reaches the wished adherence, and put it into the page."""
        area, session = self.area, request.session_hash or ""
        cancel = self.runs.start(session)
        idle = self._idle()
        try:
            with reported_errors():
                yield self._busy()
                recipe, inputs = self._asked(data)
                found = None
                for report in run_search(recipe, inputs, data[area.target], self.image.stream, cancel):
                    if isinstance(report, Progress):
                        yield {area.progress: progress_html(replace(report, preview=None))}
                    else:
                        found = report
                if found is not None:
                    self.image.made.add(session, [one.made.files[0] for one in found.tries])
                yield idle | (self._found(found) if found else {area.progress: note_html(STOPPED, "quiet")})
        except gr.Error:
            yield idle | ({area.progress: note_html(STOPPED, "quiet")} if cancel.is_set() else {})
            if not cancel.is_set():
                raise
        finally:
            self.runs.finish(session, cancel)

    def stop(self, request: gr.Request) -> list[Any]:
        """Stop after the current step; the same sweep resumes."""
        running = self.runs.stop(request.session_hash or "")
        return [gr.update(interactive=False), waiting_html("Stopping after this step") if running else ""]

    def choose(self, cells: list[Mapping[str, Any]], event: gr.SelectData) -> list[Any]:
        """Take the picture that was clicked."""
        if not 0 <= event.index < len(cells):
            return [-1, gr.update(interactive=False)]
        return [event.index, gr.update(value=_use_label(cells[event.index]["values"]), interactive=True)]

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
            area.note: note_html(f"{_words(cell['values'])} is in the page; Generate makes this picture.", "quiet")
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

    def _plan(self, data: Data, recipe: Recipe) -> SweepPlan:
        area = self.area
        axes = [self._axis(data[area.axis], data[area.values], recipe)]
        if data[area.second_axis] != NO_AXIS:
            axes.append(self._axis(data[area.second_axis], data[area.second_values], recipe))
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

    def _busy(self) -> Updates:
        area = self.area
        return {
            area.start: gr.update(interactive=False), area.auto: gr.update(interactive=False), area.stop: gr.update(interactive=True),
            area.progress: waiting_html("Getting ready"), area.note: "",
        }  # fmt: skip

    def _idle(self) -> Updates:
        area = self.area
        return {
            area.start: gr.update(value="Sweep", interactive=True), area.auto: gr.update(interactive=True),
            area.stop: gr.update(interactive=False), area.progress: "",
        }  # fmt: skip

    def _grid(self, table: SweepTable, chosen: int = -1) -> Updates:
        area = self.area
        cells = [cell for cell in table.cells if cell.file is not None]
        pictures = [(shared.served(cell.file, area.grid), _caption(cell)) for cell in cells if cell.file]
        columns = len(table.axes[0].values) if len(table.axes) > 1 else min(MOST_COLUMNS, len(table.axes[0].values))
        kept = [{"values": dict(cell.values), "seed": cell.seed} for cell in cells]
        return {
            area.grid: gr.update(value=pictures, visible=bool(pictures), columns=columns, selected_index=chosen if chosen >= 0 else None),
            area.cells: kept, area.chosen: chosen,
            area.use: gr.update(value=_use_label(kept[chosen]["values"]) if chosen >= 0 else "Use this", interactive=chosen >= 0),
        }  # fmt: skip

    def _done(self, sweep: Sweep, *, stopped: bool) -> Updates:
        area, table = self.area, sweep.table()
        if not table.done:
            reason = next((cell.reason for cell in table.cells if cell.reason), "")
            return {area.progress: note_html(reason or STOPPED, "warn" if reason else "quiet")}
        paths = sweep.write()
        cells = [cell for cell in table.cells if cell.file is not None]
        wanted = next(
            (cell for cell in cells if table.knee is not None and cell.values[table.axes[0].name] == table.knee),
            table.best,
        )
        chosen = cells.index(wanted) if wanted in cells else -1
        pack = [*paths.values(), *(cell.file for cell in cells if cell.file)]
        return self._grid(table, chosen) | {
            area.plot: gr.update(value=shared.served(paths[PLOT], area.plot), visible=True),
            area.note: summary_html(table, stopped=stopped),
            area.save_csv: gr.update(value=shared.served(paths[TABLE], area.save_csv), interactive=True),
            area.save_zip: gr.update(value=self._zip(sweep, pack), interactive=True),
            area.save_plan: gr.update(value=shared.served(paths[PLAN], area.save_plan), interactive=True),
        }  # fmt: skip

    def _zip(self, sweep: Sweep, paths: list[Path]) -> str:
        packed = BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            for path in paths:
                archive.write(path, path.name)
        return processing_utils.save_bytes_to_cache(
            packed.getvalue(), f"{sweep.folder.name}.zip", self.area.save_zip.GRADIO_CACHE
        )

    def _found(self, found: FoundGamma[Result]) -> Updates:
        area, tab = self.area, self.tab
        tries = sorted(found.tries, key=lambda one: one.gamma)
        pictures = [
            (shared.served(one.made.files[0], area.grid), f"{one.gamma:g}: {100 * one.adherence:.0f} %")
            for one in tries
        ]
        chosen = tries.index(found.chosen)
        return {
            area.grid: gr.update(value=pictures, visible=True, columns=min(MOST_COLUMNS, len(pictures)), selected_index=chosen),
            area.cells: [{"values": {"gamma": one.gamma}, "seed": one.made.seeds[0]} for one in tries],
            area.chosen: chosen, area.use: gr.update(value=_use_label({"gamma": found.chosen.gamma}), interactive=True),
            area.plot: gr.update(visible=False), area.note: note_html(found.sentence(), "info" if found.reached else "warn"),
            tab.gamma: stretched(found.chosen.gamma, GAMMA_MAXIMUM), tab.new_seed: False,
        }  # fmt: skip


def summary_html(table: SweepTable, *, stopped: bool) -> str:
    """Return the lines under a grid: knee, best cell, what the cache saved, and what could not be made."""
    axis = table.axes[0]
    parts = [
        f"{table.done} of {len(table.cells)} pictures." + (" Stopped; press Sweep again to resume." if stopped else "")
    ]
    if table.knee is not None:
        parts.append(f"Knee at {axis.label.lower()} {shown(table.knee)}: 90 % of the rise of adherence.")
    if table.best is not None:
        parts.append(f"Best: {_words(table.best.values)}, {100 * (table.best.adherence or 0):.0f} %.")
    parts.append(table.saved_text())
    failed = [f"{cell.label}: {cell.reason}" for cell in table.cells if cell.state == "failed"]
    lines = note_html(" ".join(filter(None, parts)), "quiet")
    return lines + "".join(f"<p class='cnx-note warn'>{escape(line)}</p>" for line in failed[:3])


def _caption(cell: SweptCell) -> str:
    """Return the few characters that fit under a small picture: its values and its adherence."""
    return cell.label if cell.adherence is None else f"{cell.label}: {100 * cell.adherence:.0f} %"


def _words(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name.removeprefix(LORA).replace('_', ' ')} {shown(value)}" for name, value in values.items())


def _use_label(values: Mapping[str, Any]) -> str:
    return f"Use {_words(values)}"[:40]
