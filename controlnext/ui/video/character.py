"""Layout of the character drawn of a photograph, on the video tab."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

from controlnext.ui.shared import picture_input

HELP = (
    "The bundled models know one drawn world. A photograph is better drawn in it first: in its own pose, in its colours. "
    "Change the words where they are wrong, and draw again."
)


@dataclass(frozen=True)
class CharacterArea:
    """The components."""

    words: gr.Textbox
    draw: gr.Button
    picture: gr.Image
    use: gr.Button
    note: gr.HTML


def character_area() -> CharacterArea:
    """Lay the area out; must be called inside a `gr.Blocks` context."""
    with gr.Accordion(
        "Draw the character of a photograph", open=False, elem_classes="cnx-fold", elem_id="cnx-character"
    ):
        words = gr.Textbox(
            label="Its words",
            info=HELP,
            lines=2,
            placeholder="Empty: read from the photograph.",
            elem_id="cnx-character-words",
        )
        draw = gr.Button("Draw the character", size="md", elem_id="cnx-character-draw")
        picture = picture_input(
            label="Drawn character", interactive=False, height=230, visible=False, buttons=["fullscreen"],
            elem_id="cnx-character-picture", elem_classes="cnx-frame",
        )  # fmt: skip
        use = gr.Button(
            "Use as the character", size="md", variant="primary", visible=False, elem_id="cnx-character-use"
        )
        note = gr.HTML(elem_id="cnx-character-note")
    return CharacterArea(words, draw, picture, use, note)
