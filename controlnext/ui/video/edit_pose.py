"""Layout of the pose editor of the video tab, which edits the pose of one frame."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

from controlnext.recipes.video_recipe import EASE
from controlnext.ui.pose_editor.component import pose_editor
from controlnext.ui.pose_editor.panel import HIDDEN
from controlnext.ui.shared import Updates

USUAL_EASE = 0.25
OVERLAY = ["cnx-frame"]


@dataclass(frozen=True)
class PoseEditArea:
    """The components.

    Attributes:
        overlay: what the editor takes the place of.
        open: the button that opens it for the frame that is shown.
        group: everything that is shown while it is open.
        title: which frame it is, and how the clip looks there.
        editor: the editor itself.
        ease: seconds of the frames around that go along.
        keep: puts the pose into the sequence.
        own: takes the clip's own pose for this frame again.
        cancel: closes it without a change.
        time: of the frame that is edited, in seconds.
        edits: rows of `PoseEdit` as plain data.
    """

    overlay: gr.Image
    open: gr.Button
    group: gr.Column
    title: gr.HTML
    editor: gr.HTML
    ease: gr.Slider
    keep: gr.Button
    own: gr.Button
    cancel: gr.Button
    time: gr.State
    edits: gr.State

    def shown(self, opened: bool) -> Updates:
        """Return the updates that show the editor, or what it takes the place of."""
        return {
            self.overlay: gr.update(elem_classes=[*OVERLAY, *HIDDEN] if opened else OVERLAY),
            self.group: gr.update(elem_classes=[] if opened else HIDDEN),
            self.open: gr.update(visible=not opened),
        }


def pose_edit_area(overlay: gr.Image) -> PoseEditArea:
    """Lay the area out, closed; must be called inside a `gr.Blocks` context.

    Args:
        overlay: what the editor takes the place of.
    """
    with gr.Column(elem_classes=HIDDEN, elem_id="cnx-edit") as group:
        title = gr.HTML(elem_id="cnx-edit-title")
        editor = pose_editor(photo="", elem_id="cnx-edit-editor")
        ease = gr.Slider(
            EASE.minimum, EASE.maximum, value=USUAL_EASE, step=0.05, label="Ease (s)", elem_id="cnx-edit-ease",
            info="Frames so near before and after go along with the change; 0 changes this frame alone.",
        )  # fmt: skip
        with gr.Row(elem_classes="cnx-tight"):
            keep = gr.Button("Keep this pose", variant="primary", size="md", min_width=100, elem_id="cnx-edit-keep")
            own = gr.Button("The clip's own", size="md", min_width=100, elem_id="cnx-edit-own")
            cancel = gr.Button("Cancel", size="md", min_width=80, elem_id="cnx-edit-cancel")
    button = gr.Button("Edit this frame's pose", size="md", interactive=False, elem_id="cnx-edit-open")
    return PoseEditArea(overlay, button, group, title, editor, ease, keep, own, cancel, gr.State(0.0), gr.State([]))
