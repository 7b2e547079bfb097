"""Handlers of the contact sheet: every kind of map of the picture, with its settings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import gradio as gr

from controlnext.errors import ControlNeXtError
from controlnext.recipes.kinds import READY_MADE
from controlnext.ui.image.conditions import open_condition
from controlnext.ui.shared import PRIVATE, Data, Updates, note_html, reported_errors

if TYPE_CHECKING:
    from controlnext.studio.studio import Studio
    from controlnext.ui.image.tab import ImageTab


class NoPictureError(ControlNeXtError):
    """Maps were asked for without a picture."""


class ContactSheetEvents:
    """The handlers of the sheet."""

    def __init__(self, tab: ImageTab, studio: Studio, labels: Mapping[str, str]) -> None:
        """Remember the parts.

        Args:
            tab: the page.
            studio: makes the maps.
            labels: what people call each kind.
        """
        self.tab, self.studio, self.labels = tab, studio, labels

    def wire(self, live: Mapping[str, Any], default: Callable[[str, str], Any]) -> None:
        """Connect the components; must be called inside the `gr.Blocks` context of the tab.

        Args:
            live: the queue of live conditions.
            default: returns the control strength for a model and a kind.
        """
        tab, sheet = self.tab, self.tab.sheet
        shown = [sheet.maps, sheet.note, sheet.kinds]
        settings = {widget for panel in tab.panels.values() for widget in panel.widgets.values()}
        sheet.make.click(
            self.make, {tab.picture, tab.resolution, *settings}, shown, trigger_mode="once", **live, **PRIVATE
        )
        tab.picture.change(self.clear, None, shown, queue=False, **PRIVATE)
        sheet.maps.select(
            self.choose, [sheet.kinds, tab.annotator], [tab.annotator, tab.ready_map], queue=False, **PRIVATE
        ).success(default, [tab.model, tab.annotator], tab.gamma, **PRIVATE)

    def make(self, data: Data) -> Iterator[Updates]:
        """Make the map of every kind, and show each as soon as it is there; what cannot be made says why."""
        tab, sheet, made, reasons = self.tab, self.tab.sheet, [], []
        with reported_errors():
            if data[tab.picture] is None:
                raise NoPictureError("There is no picture yet: drop one in above, and its maps appear here.")
        kinds: list[str] = []
        for kind, panel in tab.panels.items():
            if kind == READY_MADE:
                continue
            label = self.labels.get(kind, kind)
            try:
                with reported_errors():
                    condition = open_condition(
                        self.studio.annotators, data[tab.picture], kind, data[tab.resolution], panel.values(data)
                    )
            except gr.Error as error:
                reasons.append(f"{label}: {error.message}")
                continue
            made.append((condition.annotation.image, label))
            kinds.append(kind)
            yield {sheet.maps: gr.update(value=list(made), visible=True), sheet.note: "", sheet.kinds: list(kinds)}
        notes = "".join(f"<p class='cnx-note warn'>{reason}</p>" for reason in reasons)  # escaped already
        yield {sheet.note: notes or note_html("Click a map to use it.", "quiet"), sheet.kinds: kinds}

    def clear(self) -> Updates:
        """Take the maps of another picture away."""
        sheet = self.tab.sheet
        return {sheet.maps: gr.update(value=[], visible=False), sheet.note: "", sheet.kinds: []}

    def choose(self, kinds: list[str], before: str, event: gr.SelectData) -> Updates:
        """Use the map that was clicked."""
        known = 0 <= event.index < len(kinds)
        return {self.tab.annotator: kinds[event.index] if known else before, self.tab.ready_map: False}
