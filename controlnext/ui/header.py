"""Header of the page: name, claim and state of the model."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

import gradio as gr

from controlnext.ui.help import help_html
from controlnext.ui.shared import PRIVATE
from controlnext.ui.theme import TITLE

if TYPE_CHECKING:
    from controlnext.studio.studio import Studio

CLAIM = "Your picture sets the pose and the shapes. Your words paint the rest."

MARK = (
    "<svg viewBox='0 0 34 34' aria-hidden='true'><rect width='34' height='34' rx='9' fill='#146f67'/>"
    "<g fill='none' stroke-linecap='round' stroke-width='2.4'><path d='M17 12.5v8' stroke='#fff'/>"
    "<path d='M17 14.5l-6.5-3' stroke='#ffb454'/><path d='M17 14.5l6.5-3' stroke='#7fd6ff'/>"
    "<path d='M17 20.5l-4.6 6.5' stroke='#b9f27c'/><path d='M17 20.5l4.6 6.5' stroke='#ff8fa3'/></g>"
    "<circle cx='17' cy='8.4' r='2.7' fill='#fff'/></svg>"
)

POLL_SECONDS = 0.8


def build_header(page: gr.Blocks, studio: Studio) -> None:
    """Lay the header out; the chip asks until the model is loaded. Must be called inside the page's context."""
    with gr.Row(elem_id="cnx-header"):
        gr.HTML(f"<div class='cnx-brand'>{MARK}<div><h1>{TITLE}</h1><p>{CLAIM}</p></div></div>")
        chip = gr.HTML(elem_id="cnx-chip")
        gr.HTML(help_html(), elem_id="cnx-help")
    timer = gr.Timer(POLL_SECONDS)

    def look() -> tuple[str, Any]:
        settled, html = chip_html(studio)
        return html, gr.Timer(active=False) if settled else gr.skip()

    timer.tick(look, None, [chip, timer], queue=False, **PRIVATE)
    page.load(look, None, [chip, timer], queue=False, **PRIVATE)


def chip_html(studio: Studio) -> tuple[bool, str]:
    """Return whether nothing more will change, and the chip: ready, loading or missing."""
    if studio.ready:
        return True, _chip("ready", "Model ready", "")
    rows = studio.catalogue.models()
    if not any(row["usable"] for row in rows):
        reason = rows[0]["reason"] if rows else "There are no presets."
        return True, _chip("missing", "No model here", reason)
    return False, _chip("loading", "Loading the model …", "You can prepare everything meanwhile.")


def _chip(kind: str, text: str, title: str) -> str:
    return (
        f"<span class='cnx-chip {kind}' role='status' title='{escape(title, quote=True)}'><i></i>{escape(text)}</span>"
    )
