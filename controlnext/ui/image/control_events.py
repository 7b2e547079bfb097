"""Event handlers of the rows of additional controls and of the gamma curve."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import gradio as gr

from controlnext.studio.conditions import ConditionRequestError, TimedCondition
from controlnext.ui.image.conditions import condition_html
from controlnext.ui.image.controls import OFF, ORDINALS, ControlRow
from controlnext.ui.image.curve import curve_svg
from controlnext.ui.shared import PRIVATE, Data, Updates, reported_errors

if TYPE_CHECKING:
    from controlnext.studio.studio import Studio
    from controlnext.ui.image.tab import ImageTab
    from controlnext.ui.shared import Update


class ControlEvents:
    """The handlers of the rows."""

    def __init__(self, tab: ImageTab, studio: Studio) -> None:
        """Remember the parts; `wire` connects them."""
        self.tab = tab
        self.studio = studio

    def wire(self, live: Mapping[str, Any]) -> None:
        """Connect the components; must be called inside the `gr.Blocks` context of the tab.

        Args:
            live: The queue of live conditions.
        """
        tab = self.tab
        kinds = [row.kind for row in tab.controls]
        shown = [part for row in tab.controls for part in (row.group, row.kind, row.gamma)]
        tab.add_control.click(self.add, {tab.model, tab.annotator, *kinds}, [*shown, tab.add_control], **PRIVATE)
        for row in tab.controls:
            row.remove.click(
                partial(self.remove, row), None, [row.group, row.kind, row.picture, row.ready_map, tab.add_control], queue=False, **PRIVATE
            )  # fmt: skip
            row.kind.input(self.default_gamma, [tab.model, row.kind], row.gamma, **PRIVATE)
            inputs = row.condition_inputs() | {tab.picture, tab.ready_map, tab.resolution}
            gr.on(
                [part.change for part in inputs], partial(self.show, row), inputs, [row.condition, row.served],
                trigger_mode="always_last", **live, **PRIVATE,
            )  # fmt: skip
        curve = [tab.gamma_curve, tab.gamma, tab.control_start, tab.control_end]
        gr.on([part.change for part in curve], curve_svg, curve, tab.curve, queue=False, **PRIVATE)

    def condition(self, row: ControlRow, data: Data) -> TimedCondition:
        """Return the condition of a row that is in use.

        Raises:
            ConditionRequestError: There is no picture to take it from.
        """
        tab = self.tab
        if data[tab.picture] is None:
            raise ConditionRequestError("Additional controls need a first one; add its picture above.")
        made = row.made(
            self.studio.annotators, data, None if data[tab.ready_map] else data[tab.picture], data[tab.resolution]
        )
        if made is None:
            raise ConditionRequestError(
                f"The {ORDINALS[row.number].lower()} control needs a picture of its own, since the first one's is a "
                "ready-made map."
            )
        return made

    def show(self, row: ControlRow, data: Data) -> Updates:
        """Show a row's condition as it is now; where it cannot be made, say why in its place."""
        nothing = {row.condition: None, row.served: ""}
        if not row.used(data) or (data[self.tab.picture] is None and data[row.picture] is None):
            return nothing
        try:
            with reported_errors():
                made = self.condition(row, data)
        except gr.Error as error:
            return nothing | {row.served: f"<p class='cnx-note warn'>{error.message}</p>"}
        return {row.condition: made.annotation.image, row.served: condition_html(made)}

    def add(self, data: Data) -> Updates:
        """Show the next row with the first kind that is not in use."""
        tab = self.tab
        row = next((row for row in tab.controls if not row.used(data)), None)
        if row is None:
            return {tab.add_control: gr.update(visible=False)}
        taken = {data[tab.annotator], *(data[other.kind] for other in tab.controls)}
        kind = next(value for _, value in row.kind.choices if value not in taken and value != OFF)
        left = sum(not other.used(data) for other in tab.controls) - 1
        return {
            row.group: gr.update(visible=True),
            row.kind: kind,
            row.gamma: self.default_gamma(data[tab.model], kind),
            tab.add_control: gr.update(visible=left > 0),
        }

    def remove(self, row: ControlRow) -> list[Any]:
        """Hide a row and forget its picture."""
        return [gr.update(visible=False), OFF, None, False, gr.update(visible=True)]

    def default_gamma(self, model: str, kind: str) -> Update:
        """Put gamma to what the adapter of a kind was made for."""
        if kind == OFF:
            return gr.skip()
        with reported_errors():
            return self.studio.catalogue.resolve(model, kind).gamma
