"""Layout of the sweep: axes, the grid of pictures, the plot, and what is done with them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from controlnext.recipes.sweep_plan import AXES

LORA_AXIS = "lora"
"""Choice of the axis that is the weight of the first LoRA that is chosen."""

NO_AXIS = ""
AXIS_WIDTH = 240
"""Pixels in which the longest name of an axis can be read; where there is no room for them, the values stand below."""

FIRST_VALUES = "0, 0.25, 0.5, 0.75, 1, 1.25, 1.5"


@dataclass(frozen=True)
class SweepArea:
    """The components of the area.

    Attributes:
        cells: values, seed and file of each picture in the grid, in its order.
        chosen: number of the picture that was clicked; -1 for none.
        origin: the saved sweep that was opened again, as its file; empty for none.
    """

    fold: gr.Accordion
    axis: gr.Dropdown
    values: gr.Textbox
    second_axis: gr.Dropdown
    second_values: gr.Textbox
    start: gr.Button
    stop: gr.Button
    target: gr.Slider
    auto: gr.Button
    progress: gr.HTML
    plot: gr.Image
    grid: gr.Gallery
    note: gr.HTML
    use: gr.Button
    save_csv: gr.DownloadButton
    save_zip: gr.DownloadButton
    save_plan: gr.DownloadButton
    cells: gr.State
    chosen: gr.State
    origin: gr.State

    def inputs(self) -> set[gr.components.Component]:
        """Return what a sweep depends on besides the recipe of the page."""
        return {self.axis, self.values, self.second_axis, self.second_values, self.target, self.origin}


def sweep_area() -> SweepArea:
    """Lay the area out; must be called inside a `gr.Blocks` context."""
    choices = [*((label, name) for name, label in AXES.items()), ("LoRA weight", LORA_AXIS)]
    parts: dict[str, Any] = {}
    with gr.Accordion("Sweep", open=False, elem_classes="cnx-fold", elem_id="cnx-sweep") as parts["fold"]:
        with gr.Row(elem_classes="cnx-tight"):
            parts["axis"] = gr.Dropdown(
                choices, value="gamma", label="Change", scale=2, min_width=AXIS_WIDTH, elem_id="cnx-sweep-axis"
            )
            parts["values"] = gr.Textbox(
                FIRST_VALUES, label="Values", max_lines=1, scale=2, min_width=150, elem_id="cnx-sweep-values",
                info="2 to 9: with commas, or first:last:count",
            )  # fmt: skip
        with gr.Row(elem_classes="cnx-tight"):
            parts["second_axis"] = gr.Dropdown(
                [("nothing else", NO_AXIS), *choices], value=NO_AXIS, label="And", scale=2, min_width=AXIS_WIDTH,
                elem_id="cnx-sweep-axis-2",
            )  # fmt: skip
            parts["second_values"] = gr.Textbox(
                "", label="Its values", max_lines=1, scale=2, min_width=150, elem_id="cnx-sweep-values-2"
            )
        with gr.Row(elem_classes="cnx-tight"):
            parts["start"] = gr.Button("Sweep", variant="primary", size="md", min_width=120, elem_id="cnx-sweep-start")
            parts["stop"] = gr.Button(
                "Stop", variant="stop", size="md", min_width=70, interactive=False, elem_id="cnx-sweep-stop"
            )
        with gr.Row(elem_classes="cnx-tight"):
            parts["target"] = gr.Slider(
                0.05, 1, value=0.9, step=0.01, label="Wished adherence", scale=2, min_width=150, elem_id="cnx-sweep-target"
            )  # fmt: skip
            parts["auto"] = gr.Button("Auto-gamma", size="md", min_width=120, elem_id="cnx-sweep-auto")
        parts["progress"] = gr.HTML(elem_id="cnx-sweep-progress")
        parts["grid"] = gr.Gallery(
            show_label=False, label="Sweep", columns=4, height="auto", object_fit="contain", format="png", preview=False,
            allow_preview=False, interactive=False, buttons=[], visible=False, elem_id="cnx-sweep-grid",
        )  # fmt: skip
        parts["note"] = gr.HTML(elem_id="cnx-sweep-note")
        parts["plot"] = gr.Image(
            show_label=False, label="Adherence and distance", format="png", interactive=False, visible=False,
            buttons=["fullscreen"], elem_id="cnx-sweep-plot",
        )  # fmt: skip
        parts["use"] = gr.Button("Use this", size="md", interactive=False, elem_id="cnx-sweep-use")
        with gr.Row(elem_classes="cnx-tight"):
            for name, label in (("csv", "CSV"), ("zip", "ZIP"), ("plan", "Sweep file")):
                parts[f"save_{name}"] = gr.DownloadButton(
                    label, size="md", interactive=False, min_width=60, elem_id=f"cnx-sweep-{name}"
                )
    return SweepArea(**parts, cells=gr.State([]), chosen=gr.State(-1), origin=gr.State(""))
