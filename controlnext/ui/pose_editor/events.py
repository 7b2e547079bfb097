"""Event handlers of the pose editor in the image tab: opened, loaded, closed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gradio as gr

from annotators.base import NobodyFound
from controlnext.adherence.skeletons import joints_in_drawing
from controlnext.recipes.kinds import POSE
from controlnext.ui.pose_editor.poses import CONFIDENCE, editable_pose, pose_of_file, standing_pose
from controlnext.ui.shared import PRIVATE, Data, Updates, reported_errors

if TYPE_CHECKING:
    from controlnext.ui.image.events import ImageEvents


class PoseEvents:
    """The handlers of the pose editor."""

    def __init__(self, image: ImageEvents) -> None:
        """Remember the handlers of the tab; `wire` connects the editor's own."""
        self.image = image
        self.tab = image.tab
        self.panel = image.tab.pose

    def wire(self) -> None:
        """Connect the components; must be called inside the `gr.Blocks` context of the tab."""
        tab, panel = self.tab, self.panel
        frame = [panel.pair, panel.group, panel.open]
        inputs = tab.condition_inputs() | {tab.model, tab.shape}
        panel.open.click(self.open, inputs, [*frame, panel.editor], **PRIVATE)
        panel.load.upload(self.load, inputs | {panel.load}, panel.editor, **PRIVATE)
        panel.done.click(lambda: self.panel.shown(False), None, frame, queue=False, **PRIVATE)
        panel.discard.click(
            lambda: {**self.panel.shown(False), panel.editor: ""}, None, [*frame, panel.editor], queue=False, **PRIVATE
        )
        tab.annotator.change(self.choose_kind, tab.annotator, frame, queue=False, **PRIVATE)

    def open(self, data: Data) -> Updates:
        """Show the editor with the pose that is in use."""
        with reported_errors():
            return {**self.panel.shown(True), self.panel.editor: data[self.panel.editor] or self._start(data)}

    def load(self, data: Data) -> str:
        """Take the pose of a file."""
        with reported_errors():
            return pose_of_file(self.image.studio.annotators, data[self.panel.load], self.image.size(data))

    def choose_kind(self, kind: str) -> Updates:
        """Offer the editor for poses alone, and close it for another kind."""
        return {**self.panel.shown(False), self.panel.open: gr.update(visible=kind == POSE)}

    def _start(self, data: Data) -> str:
        annotators = self.image.studio.annotators
        try:
            made = self.image.condition(data)
        except NobodyFound as error:
            gr.Info(f"{error} A standing figure is there instead.", duration=6)
            made = None
        if made is None:
            return standing_pose(annotators, *self.image.size(data))
        image, found = made.annotation.image, _people_of(made.annotation)
        if not found["people"]:
            return standing_pose(annotators, *image.size)
        return editable_pose(annotators, found, self._confidence(data))

    def _confidence(self, data: Data) -> float:
        if data[self.tab.ready_map]:
            return CONFIDENCE
        widget = self.tab.panels[POSE].widgets.get("confidence")
        return CONFIDENCE if widget is None else float(data[widget])


def _people_of(annotation: Any) -> dict[str, Any]:  # noqa: ANN401 - a MadeCondition
    """The people of a condition as data, read from the drawing where it came as a picture."""
    width, height = annotation.image.size
    if annotation.data and annotation.data.get("people"):
        return {"width": width, "height": height, **annotation.data}
    import numpy as np

    people = joints_in_drawing(np.asarray(annotation.image.convert("RGB")))
    return {"people": [person.tolist() for person in people], "width": width, "height": height}
