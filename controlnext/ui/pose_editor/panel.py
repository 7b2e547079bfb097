"""Layout of the pose editor in a tab: the button that opens it, the editor, and what closes it."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

from controlnext.ui.pose_editor.component import Drags, pose_editor

PAIR = ["cnx-pair"]
HIDDEN = ["cnx-hidden"]
"""Classes of the style sheet: Gradio shows a row or a column whose `visible` is "hidden" all the same."""


@dataclass(frozen=True)
class PosePanel:
    """The components.

    Attributes:
        pair: what the editor takes the place of.
        open: the button that opens it.
        group: everything that is shown while it is open.
        editor: the editor itself; its value is empty where no edited pose is in use.
        drags: what answers its drags.
        done: closes it and keeps the pose.
        discard: closes it and takes the picture's own pose again.
        load: takes a pose from a file.
        record: keeps the poses of drags and the key poses while it is on.
        animate: hands the recording to the video tab.
        moments: takes time and pose of each recorded pose from the editor's script.
        count: takes how many there are.
    """

    pair: gr.Row
    open: gr.Button
    group: gr.Column
    editor: gr.HTML
    drags: Drags
    done: gr.Button
    discard: gr.Button
    load: gr.UploadButton
    record: gr.Checkbox
    animate: gr.Button
    moments: gr.JSON
    count: gr.Number

    def shown(self, opened: bool) -> dict[gr.blocks.Block, dict]:
        """Return the updates that show the editor, or what it takes the place of."""
        return {
            self.pair: gr.update(elem_classes=[*PAIR, *HIDDEN] if opened else PAIR),
            self.group: gr.update(elem_classes=[] if opened else HIDDEN),
            self.open: gr.update(visible=not opened),
        }


def build_pose_panel(pair: gr.Row, photo: str, target: str, stage: str, switches: str) -> PosePanel:
    """Lay the editor out, closed, and make the button that opens it, which is not rendered yet.

    Must be called inside a `gr.Blocks` context.

    Args:
        pair: what the editor takes the place of.
        photo: CSS selector of the picture behind the figures.
        target: CSS selector of the live picture.
        stage: CSS selector of what holds it.
        switches: CSS selector of the checkbox that switches it.
    """
    with gr.Column(elem_classes=HIDDEN, elem_id="cnx-pose") as group:
        drags = Drags()
        editor = pose_editor(
            photo=photo, drags=drags, target=target, stage=stage, switches=switches, elem_id="cnx-pose-editor"
        )
        with gr.Row(elem_classes="cnx-tight"):
            done = gr.Button("Done", variant="primary", size="md", min_width=80, elem_id="cnx-pose-done")
            discard = gr.Button("Discard", size="md", min_width=80, elem_id="cnx-pose-discard")
            load = gr.UploadButton(
                "Load JSON …", size="md", file_types=[".json"], min_width=80, elem_id="cnx-pose-load"
            )
        with gr.Row(elem_classes="cnx-tight"):
            record = gr.Checkbox(
                False, label="Record", elem_id="cnx-pose-record", min_width=120,
                info="Keeps drags as they are, and eases between poses that you leave for a moment.",
            )  # fmt: skip
            animate = gr.Button("Animate", size="md", min_width=120, interactive=False, elem_id="cnx-pose-animate")
    button = gr.Button("Edit the pose", size="md", min_width=110, scale=0, elem_id="cnx-pose-open", render=False)
    moments, count = gr.JSON([], visible=False, label="recording"), gr.Number(0, visible=False, label="poses")
    return PosePanel(pair, button, group, editor, drags, done, discard, load, record, animate, moments, count)
