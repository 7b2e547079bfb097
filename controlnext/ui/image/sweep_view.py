"""What the area of a sweep shows: its grid, plot and figures, of a sweep that runs, has ended or was saved before."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING, Any

import gradio as gr

from controlnext.recipes.kinds import kind_of
from controlnext.recipes.recipe import field_words
from controlnext.recipes.sweep_plan import LORA, SweepAxis, Value, shown
from controlnext.results.saved_sweeps import PLAN, PLOT, TABLE, SavedSweep
from controlnext.ui import shared
from controlnext.ui.image.events import STOPPED
from controlnext.ui.image.sweep import LORA_AXIS, NO_AXIS, SweepArea
from controlnext.ui.shared import Updates, note_html, waiting_html

if TYPE_CHECKING:
    from controlnext.results.sweep_table import SweepTable, SweptCell
    from controlnext.studio.auto_gamma import FoundGamma
    from controlnext.studio.studio import Result

ROWS = "cnx-rows"
"""Class of a grid of two axes: each value of the first has a column of its own, and the grid scrolls where it is too wide."""

LONGEST_NUMBER = 6
"""Characters of a whole number under a small picture."""

MOST_COLUMNS = 4
"""Columns of the grid where there is one axis."""


class SweepView:
    """Updates of the area's components."""

    def __init__(self, area: SweepArea) -> None:
        """Remember the components."""
        self.area = area

    def outputs(self) -> list[gr.components.Component]:
        """Return everything that a sweep or a search changes in the area."""
        area = self.area
        return [
            area.start, area.auto, area.stop, area.progress, area.plot, area.grid, area.note, area.use, area.save_csv, area.save_zip,
            area.save_plan, area.cells, area.chosen,
        ]  # fmt: skip

    def busy(self) -> Updates:
        """Show that it works."""
        area = self.area
        return {
            area.start: gr.update(interactive=False), area.auto: gr.update(interactive=False), area.stop: gr.update(interactive=True),
            area.progress: waiting_html("Getting ready"), area.note: "",
        }  # fmt: skip

    def idle(self) -> Updates:
        """Return to rest."""
        area = self.area
        return {
            area.start: gr.update(value="Sweep", interactive=True), area.auto: gr.update(interactive=True),
            area.stop: gr.update(interactive=False), area.progress: "",
        }  # fmt: skip

    def axes(self, axes: tuple[SweepAxis, ...]) -> Updates:
        """Put axes and their values into the fields."""
        area, updates = self.area, {}
        for index, (name, values) in enumerate(((area.axis, area.values), (area.second_axis, area.second_values))):
            axis = axes[index] if index < len(axes) else None
            label = NO_AXIS if axis is None else LORA_AXIS if axis.name.startswith(LORA) else axis.name
            updates |= {name: label, values: "" if axis is None else ", ".join(map(shown, axis.values))}
        return updates

    def grid(self, table: SweepTable, chosen: int = -1) -> Updates:
        """Show the cells that are made."""
        cells = [cell for cell in table.cells if cell.file is not None]
        pictures = [(shared.served(cell.file, self.area.grid), caption(cell)) for cell in cells if cell.file]
        columns, rows = len(table.axes[0].values), len(table.axes) > 1
        kept = [{"values": dict(cell.values), "seed": cell.seed} for cell in cells]
        return self._grid(
            pictures, kept, chosen, columns if rows else min(MOST_COLUMNS, columns), [ROWS] if rows else []
        )

    def done(self, saved: SavedSweep, *, stopped: bool) -> Updates:
        """Show a sweep as its folder has it."""
        area, table = self.area, saved.table
        if not table.done:
            reason = next((cell.reason for cell in table.cells if cell.reason), "")
            return {area.progress: note_html(reason or STOPPED, "warn" if reason else "quiet")}
        cells = [cell for cell in table.cells if cell.file is not None]
        wanted = next(
            (cell for cell in cells if table.knee is not None and cell.values[table.axes[0].name] == table.knee),
            table.best,
        )
        chosen = cells.index(wanted) if wanted in cells else -1
        buttons = {PLAN: area.save_plan, TABLE: area.save_csv}
        files = {path.name: path for path in saved.files}
        plot = shared.served(files[PLOT], area.plot) if PLOT in files else None
        return self.grid(table, chosen) | {
            area.plot: gr.update(value=plot, visible=plot is not None),
            area.note: summary_html(table, stopped=stopped),
            area.save_zip: gr.update(value=shared.served_zip(saved.files, area.save_zip, saved.folder.name), interactive=True),
            **{
                button: gr.update(value=shared.served(files[name], button), interactive=True)
                for name, button in buttons.items()
                if name in files
            },
        }  # fmt: skip

    def found(self, found: FoundGamma[Result]) -> Updates:
        """Show the pictures of a search, in the order of gamma."""
        area = self.area
        tries = sorted(found.tries, key=lambda one: one.gamma)
        pictures = [
            (shared.served(one.made.files[0], area.grid), f"{one.gamma:g}: {100 * one.adherence:.0f} %")
            for one in tries
        ]
        kept = [{"values": {"gamma": one.gamma}, "seed": one.made.seeds[0]} for one in tries]
        note = note_html(found.sentence(), "info" if found.reached else "warn")
        columns = min(MOST_COLUMNS, len(pictures))
        return self._grid(pictures, kept, tries.index(found.chosen), columns, []) | {
            area.plot: gr.update(visible=False),
            area.note: note,
        }

    def _grid(
        self,
        pictures: list[tuple[str, str]],
        kept: list[dict[str, Any]],
        chosen: int,
        columns: int,
        classes: list[str],
    ) -> Updates:
        area, there = self.area, chosen >= 0
        return {
            area.grid: gr.update(
                value=pictures, visible=bool(pictures), columns=columns, elem_classes=classes, selected_index=chosen if there else None
            ),
            area.cells: kept,
            area.chosen: chosen,
            area.use: gr.update(value=use_label(kept[chosen]["values"]) if there else "Use this", interactive=there),
        }  # fmt: skip


def summary_html(table: SweepTable, *, stopped: bool) -> str:
    """Return the lines under a grid: knee, best cell, what the cache saved, and what could not be made."""
    axis = table.axes[0]
    parts = [
        f"{table.done} of {len(table.cells)} pictures.",
        "Stopped; press Sweep again to resume." if stopped else "",
    ]
    if table.knee is not None:
        parts.append(f"Knee at {axis.label.lower()} {shown(table.knee)}: 90 % of the rise of adherence.")
    if table.best is not None:
        parts.append(f"Best: {words_of(table.best.values)}, {100 * (table.best.adherence or 0):.0f} %.")
    parts.append(table.saved_text())
    failed = [f"{cell.label}: {cell.reason}" for cell in table.cells if cell.state == "failed"]
    # One element for each sentence, since the page's other languages translate whole texts.
    sentences = " ".join(f"<span>{escape(part)}</span>" for part in parts if part)
    lines = f"<p class='cnx-note quiet'>{sentences}</p>"
    return lines + "".join(f"<p class='cnx-note warn'>{escape(line)}</p>" for line in failed[:3])


def caption(cell: SweptCell) -> str:
    """Return the few characters that fit under a small picture: its values and its adherence."""
    values = " · ".join(_short(_value(name, value)) for name, value in cell.values.items())
    return values if cell.adherence is None else f"{values}: {100 * cell.adherence:.0f} %"


def _short(value: Value) -> str:
    """A long seed by its last digits, in which those of one sweep differ."""
    text = shown(value)
    return f"…{text[-4:]}" if isinstance(value, int) and len(text) > LONGEST_NUMBER else text


def words_of(values: Mapping[str, Any]) -> str:
    """Return the values of a cell in words, such as `gamma 0.5, seed 3`."""
    return ", ".join(
        f"{field_words(name.removeprefix(LORA))} {shown(_value(name, value))}" for name, value in values.items()
    )


def _value(axis: str, value: Value) -> Value:
    """Kinds of control by the words that the page has for them."""
    return kind_of(str(value)).label if axis == "annotator" else value


def use_label(values: Mapping[str, Any]) -> str:
    """Return the label of the button that takes a cell."""
    return f"Use {words_of(values)}"[:60]
