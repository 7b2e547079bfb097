"""Layout of a visitor's own presets: settings under a name, kept in the browser, saved and read as YAML."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

LONGEST_NAME = 60
"""Characters of a name."""

NONE = ""
"""The choice that is no preset."""


@dataclass(frozen=True)
class OwnPresetArea:
    """The components of the area."""

    chosen: gr.Dropdown
    use: gr.Button
    delete: gr.Button
    name: gr.Textbox
    keep: gr.Button
    save: gr.DownloadButton
    read: gr.UploadButton
    message: gr.HTML


def own_preset_area() -> OwnPresetArea:
    """Lay the area out; must be called inside a `gr.Blocks` context."""
    with gr.Accordion("My presets", open=False, elem_classes="cnx-fold", elem_id="cnx-own"):
        with gr.Row(elem_classes="cnx-tight", equal_height=True):
            chosen = gr.Dropdown(
                [("none yet", NONE)], value=NONE, show_label=False, label="My presets", container=False, scale=3, min_width=120,
                elem_id="cnx-own-chosen",
            )  # fmt: skip
            use = gr.Button("Use", size="md", min_width=60, elem_id="cnx-own-use")
            delete = gr.Button("Delete", size="md", min_width=60, elem_id="cnx-own-delete")
        with gr.Row(elem_classes="cnx-tight", equal_height=True):
            name = gr.Textbox(
                show_label=False, label="Name", container=False, placeholder="name of these settings", max_lines=1,
                max_length=LONGEST_NAME, scale=3, min_width=120, elem_id="cnx-own-name",
            )  # fmt: skip
            keep = gr.Button("Save as preset", size="md", min_width=120, elem_id="cnx-own-keep")
        with gr.Row(elem_classes="cnx-tight"):
            save = gr.DownloadButton("Save YAML", size="md", interactive=False, min_width=90, elem_id="cnx-own-save")
            read = gr.UploadButton(
                "Read YAML …", size="md", file_types=[".yaml", ".yml"], min_width=90, elem_id="cnx-own-read"
            )
        message = gr.HTML(elem_id="cnx-own-message")
    return OwnPresetArea(chosen, use, delete, name, keep, save, read, message)
