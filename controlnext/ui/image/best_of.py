"""Layout of best-of-many and of the repair of a picture."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

from controlnext.recipes.limits import LIMITS


@dataclass(frozen=True)
class BestOfArea:
    """The components of the area.

    Attributes:
        chosen: number of the picture of the gallery that was clicked last.
    """

    count: gr.Slider
    start: gr.Button
    repair: gr.Button
    chosen: gr.State


def best_of_area() -> BestOfArea:
    """Lay the area out; must be called inside a `gr.Blocks` context."""
    with gr.Accordion("Best of, and repair", open=False, elem_classes="cnx-fold", elem_id="cnx-best"):
        with gr.Row(elem_classes="cnx-tight"):
            count = gr.Slider(
                2, LIMITS["num_images"].maximum, value=4, step=1, label="Seeds", scale=2, min_width=150, elem_id="cnx-best-count",
                info="The picture that follows best comes first.",
            )  # fmt: skip
            start = gr.Button("Best of these", size="md", min_width=120, elem_id="cnx-best-start")
        repair = gr.Button("Repair this picture where it drifted", size="md", elem_id="cnx-repair")
    return BestOfArea(count, start, repair, gr.State(0))
