"""Layout of what a result followed: the picture beside its overlay, and a table of the numbers, at one click."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

from controlnext.ui.shared import Updates

SHOW, HIDE = "What it followed", "Hide overlay"


@dataclass(frozen=True)
class FollowingPanel:
    """The components.

    Attributes:
        button: shows and hides the others.
        group: everything that is shown.
        slider: the picture on the left, its overlay on the right.
        table: what the colours mean, and the numbers.
        open: whether it is shown.
        picked: number of the picture that was clicked last.
    """

    button: gr.Button
    group: gr.Column
    slider: gr.ImageSlider
    table: gr.HTML
    open: gr.State
    picked: gr.State

    def closed(self, *, usable: bool) -> Updates:
        """Return the updates that hide it; `usable` says whether there is a result."""
        return {
            self.group: gr.update(visible=False), self.open: False, self.picked: 0,
            self.button: gr.update(value=SHOW, interactive=usable),
        }  # fmt: skip


def following_panel() -> FollowingPanel:
    """Lay the panel out, hidden; must be called inside a `gr.Blocks` context. The button is not rendered yet."""
    with gr.Column(visible=False, elem_id="cnx-following") as group:
        slider = gr.ImageSlider(
            show_label=False, interactive=False, format="png", slider_position=0, buttons=["fullscreen"], elem_id="cnx-following-slider",
        )  # fmt: skip
        table = gr.HTML(elem_id="cnx-following-table")
    button = gr.Button(SHOW, size="md", interactive=False, min_width=130, elem_id="cnx-follow", render=False)
    return FollowingPanel(button, group, slider, table, gr.State(False), gr.State(0))
