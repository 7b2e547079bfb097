"""Layout of the upload doctor: a sentence on what a dropped picture already is, and buttons that mend it."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

from controlnext.adherence.map_kind import PHOTOGRAPH


@dataclass(frozen=True)
class DoctorPanel:
    """The components.

    Attributes:
        group: everything, hidden where there is nothing to say.
        says: the sentence.
        take: takes the picture as a ready-made map of the kind that was recognised, inverted or with red and blue swapped as it is.
        read: reads the picture with an annotator again.
        invert: turns black and white around.
        swap: swaps red and blue.
        other: takes it as a map of another kind.
        found: what was recognised.
    """

    group: gr.Column
    says: gr.HTML
    take: gr.Button
    read: gr.Button
    invert: gr.Button
    swap: gr.Button
    other: gr.Dropdown
    found: gr.State


def doctor_panel(choices: list[tuple[str, str]]) -> DoctorPanel:
    """Lay the panel out, hidden; must be called inside a `gr.Blocks` context.

    Args:
        choices: labels and names of the kinds of condition.
    """
    with gr.Column(visible=False, elem_id="cnx-doctor") as group:
        says = gr.HTML()
        with gr.Row(elem_classes="cnx-tight"):
            take = gr.Button(
                "Take as ready-made", variant="primary", size="sm", min_width=120, elem_id="cnx-doctor-take"
            )
            read = gr.Button("Read it again", size="sm", min_width=90, elem_id="cnx-doctor-read")
            invert = gr.Button("Invert", size="sm", min_width=60, elem_id="cnx-doctor-invert")
            swap = gr.Button("Swap red and blue", size="sm", min_width=110, elem_id="cnx-doctor-swap")
            other = gr.Dropdown(
                [("Other kind …", ""), *choices], value="", show_label=False, label="Other kind", container=False, min_width=110, elem_id="cnx-doctor-other",
            )  # fmt: skip
    return DoctorPanel(group, says, take, read, invert, swap, other, gr.State(PHOTOGRAPH))
