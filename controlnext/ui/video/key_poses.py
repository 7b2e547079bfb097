"""Layout of the key poses of a clip on the video tab."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

MOST_POSES = 12


@dataclass(frozen=True)
class KeyPoseArea:
    """The components.

    Attributes:
        poses: the pose of each picture of the sheet, as OpenPose JSON.
    """

    count: gr.Slider
    make: gr.Button
    sheet: gr.Gallery
    save: gr.DownloadButton
    note: gr.HTML
    poses: gr.State


def key_pose_area() -> KeyPoseArea:
    """Lay the area out; must be called inside a `gr.Blocks` context."""
    with gr.Accordion("Key poses", open=False, elem_classes="cnx-fold", elem_id="cnx-key-poses"):
        with gr.Row(elem_classes="cnx-tight", equal_height=True):
            count = gr.Slider(
                2, MOST_POSES, value=6, step=1, label="Poses at most", scale=2, min_width=130, elem_id="cnx-key-count"
            )
            make = gr.Button("Key poses of this clip", size="md", min_width=140, elem_id="cnx-key-make")
        sheet = gr.Gallery(
            show_label=False, label="Key poses", columns=4, height="auto", object_fit="contain", allow_preview=False, preview=False,
            interactive=False, buttons=[], format="png", visible=False, elem_id="cnx-key-sheet",
        )  # fmt: skip
        note = gr.HTML(elem_id="cnx-key-note")
        save = gr.DownloadButton("Save the poses (JSON)", size="sm", visible=False, elem_id="cnx-key-save")
    return KeyPoseArea(count, make, sheet, save, note, gr.State([]))
