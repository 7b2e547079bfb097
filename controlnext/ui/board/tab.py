"""Layout of the results tab: a wall of results, one of them in detail, two of them side by side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

KINDS = (("All", "all"), ("Pictures", "picture"), ("Videos", "video"), ("Sweeps", "sweep"))
ORDERS = (("Newest first", "newest"), ("Oldest first", "oldest"), ("Best adherence first", "adherence"))
PAGE = 48
"""Results shown at first, and more with each press of "Show more"."""


@dataclass(frozen=True)
class BoardTab:
    """The components of the tab; `BoardEvents` connects them.

    Attributes:
        names: names of what the wall shows, in its order.
        chosen: name of the result in detail; empty while there is none.
        count: how many results the wall shows at most.
        delete: asks; `sure` deletes.
        project: saves what `pack` has packed.
    """

    words: gr.Textbox
    kind: gr.Radio
    order: gr.Dropdown
    found: gr.HTML
    wall: gr.Gallery
    more: gr.Button
    detail: gr.Column
    picture: gr.Image
    video: gr.Video
    plot: gr.Image
    about: gr.HTML
    restore: gr.Button
    use_picture: gr.Button
    use_start: gr.Button
    use_character: gr.Button
    save: gr.DownloadButton
    delete: gr.Button
    sure: gr.Button
    compare: gr.Checkbox
    comparison: gr.Column
    slider: gr.ImageSlider
    table: gr.HTML
    verify: gr.Button
    verified: gr.HTML
    pack: gr.Button
    project: gr.DownloadButton
    unpack: gr.UploadButton
    message: gr.HTML
    names: gr.State
    chosen: gr.State
    count: gr.State

    def query_inputs(self) -> set[gr.components.Component]:
        """Return what the wall depends on."""
        return {self.words, self.kind, self.order, self.count}


def build_board_tab() -> BoardTab:
    """Lay the tab out; must be called inside a `gr.Blocks` context."""
    parts: dict[str, Any] = {}
    with gr.Row(elem_classes="cnx-columns", equal_height=False):
        with gr.Column(scale=7, min_width=330, elem_classes="cnx-panel"):
            with gr.Row():
                parts["words"] = gr.Textbox(
                    label="Search", placeholder="words of the prompt, a model, a control, a date", lines=1, max_lines=1, scale=3,
                    min_width=200, elem_id="cnx-board-words",
                )  # fmt: skip
                parts["kind"] = gr.Radio(KINDS, value="all", label="Show", scale=4, min_width=350)
                parts["order"] = gr.Dropdown(ORDERS, value="newest", label="Order", scale=2, min_width=160)
            parts["found"] = gr.HTML(elem_id="cnx-board-found")
            parts["wall"] = gr.Gallery(
                show_label=False, columns=6, height="auto", object_fit="contain", format="jpeg", preview=False, allow_preview=False,
                interactive=False, buttons=[], elem_id="cnx-board-wall",
            )  # fmt: skip
            parts["more"] = gr.Button("Show more", size="sm", visible=False)
            with gr.Row():
                parts["pack"] = gr.Button(
                    "Pack what is shown into a project", size="sm", min_width=180, elem_id="cnx-board-pack"
                )
                parts["project"] = gr.DownloadButton(
                    "Save the project", size="sm", visible=False, min_width=140, elem_id="cnx-board-project"
                )
                parts["unpack"] = gr.UploadButton(
                    "Open a project …", size="sm", file_types=[".zip"], min_width=140, elem_id="cnx-board-unpack"
                )
            parts["message"] = gr.HTML(elem_id="cnx-board-message")
        with gr.Column(scale=4, min_width=330, elem_classes="cnx-panel", visible=False) as parts["detail"]:
            parts |= _detail()
    parts |= {"names": gr.State([]), "chosen": gr.State(""), "count": gr.State(PAGE)}
    return BoardTab(**parts)


def _detail() -> dict[str, Any]:
    parts: dict[str, Any] = {}
    parts["picture"] = gr.Image(
        show_label=False, format="png", interactive=False, buttons=["fullscreen"], elem_id="cnx-board-picture", elem_classes="cnx-frame",
    )  # fmt: skip
    parts["video"] = gr.Video(show_label=False, interactive=False, visible=False, elem_id="cnx-board-video")
    parts["plot"] = gr.Image(
        show_label=False, format="png", interactive=False, visible=False, buttons=["fullscreen"], elem_id="cnx-board-plot",
    )  # fmt: skip
    parts["about"] = gr.HTML(elem_id="cnx-board-about")
    with gr.Row():
        parts["restore"] = gr.Button("Restore its settings", variant="primary", size="sm", min_width=140)
        parts["save"] = gr.DownloadButton("Save", size="sm", min_width=80)
    with gr.Row():
        parts["use_picture"] = gr.Button("Use as picture", size="sm", min_width=120)
        parts["use_start"] = gr.Button("Start from it", size="sm", min_width=120)
        parts["use_character"] = gr.Button("Use as character", size="sm", min_width=120)
    parts["verify"] = gr.Button("Verify: make it again and compare", size="sm", elem_id="cnx-board-verify")
    parts["verified"] = gr.HTML(elem_id="cnx-board-verified")
    parts["compare"] = gr.Checkbox(
        False,
        label="Compare",
        info="The next result that you click is laid over this one.",
        elem_id="cnx-board-compare",
    )
    with gr.Column(visible=False) as parts["comparison"]:
        parts["slider"] = gr.ImageSlider(show_label=False, interactive=False, format="png", elem_id="cnx-board-slider")
        parts["table"] = gr.HTML(elem_id="cnx-board-table")
    with gr.Row():
        parts["delete"] = gr.Button("Delete", size="sm", min_width=80, elem_id="cnx-board-delete")
        parts["sure"] = gr.Button(
            "Yes, move it to the trash", variant="stop", size="sm", visible=False, elem_id="cnx-board-sure"
        )
    return parts
