"""Layout of the contact sheet: all maps of the picture, each usable by a click."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr


@dataclass(frozen=True)
class ContactSheet:
    """The components of the sheet.

    Attributes:
        kinds: the kind of each map in the gallery, in its order.
    """

    make: gr.Button
    maps: gr.Gallery
    note: gr.HTML
    kinds: gr.State


def contact_sheet() -> ContactSheet:
    """Lay the sheet out; must be called inside a `gr.Blocks` context."""
    make = gr.Button("All maps of this picture", size="sm", elem_id="cnx-all-maps", elem_classes="cnx-small")
    maps = gr.Gallery(
        columns=4, rows=1, height="auto", allow_preview=False, object_fit="contain", show_label=False, label="All maps", format="png",
        container=False, interactive=False, buttons=[], visible=False, elem_id="cnx-sheet",
    )  # fmt: skip
    return ContactSheet(make, maps, gr.HTML(elem_id="cnx-sheet-note"), gr.State([]))
