"""The tab "What works here": models, annotators and LoRAs with their states."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import gradio as gr

from controlnext.ui.models import state_word
from controlnext.ui.shared import PRIVATE, reported_errors

if TYPE_CHECKING:
    from controlnext.studio.studio import Studio

API_EXAMPLE = """```python
from gradio_client import Client, handle_file

studio = Client("http://127.0.0.1:7860")
pictures, recipe = studio.predict(
    handle_file("me.jpg"), prompt="a person in a red shirt on green grass", api_name="/generate"
)
```"""


def build_status_tab(tab: gr.Tab, studio: Studio) -> None:
    """Lay the tab out and fill it whenever it is opened; must be called inside the tab's context."""
    with gr.Column(elem_classes="cnx-panel"):
        shown = gr.HTML(elem_id="cnx-status")
    with gr.Column(elem_classes="cnx-panel"):
        gr.HTML("<h2 class='cnx-heading'>From a program</h2>")
        gr.Markdown(API_EXAMPLE, elem_classes="cnx-code")

    def fill() -> str:
        with reported_errors():
            return status_html(studio.catalogue.models(), studio.annotators.status(), studio.catalogue.loras())

    tab.select(fill, None, shown, concurrency_id="status", concurrency_limit=2, **PRIVATE)


def status_html(
    models: Sequence[Mapping[str, Any]], annotators: Sequence[Mapping[str, Any]], loras: Sequence[Mapping[str, Any]]
) -> str:
    """Return the three lists; every row has a name, whether it is usable, and the reason if not."""
    rows = [
        _section("Models", [_row(row, _model(row)) for row in models]),
        _section(
            "Annotators",
            [_annotator(row) for row in annotators],
        ),
        _section("Styles (LoRA)", [_row(row, "") for row in loras]),
    ]
    return "".join(rows)


def _model(row: Mapping[str, Any]) -> str:
    styles = row.get("styles", {})
    kinds = ", ".join(f"{kind} ({styles[kind]})" if kind in styles else kind for kind in row["annotators"])
    return " ".join(part for part in (row.get("description", ""), f"Control by {kinds}." if kinds else "") if part)


def _annotator(row: Mapping[str, Any]) -> str:
    """Return the row of an annotator and those of its backends, which say what is missing where it is not usable."""
    backends = row["backends"]
    head = row if row["usable"] else {**row, "reason": ""}
    return _row(head, "") + "".join(_row(one, _source(one), under=True) for one in backends)


def _source(backend: Mapping[str, Any]) -> str:
    return ", ".join(part for part in (backend.get("source", ""), backend.get("licence", "")) if part)


def _section(title: str, rows: Sequence[str]) -> str:
    body = "".join(rows) or "<tr><td colspan=3 class='cnx-reason'>none</td></tr>"
    return f"<h2 class='cnx-heading'>{title}</h2><table class='cnx-table'><tbody>{body}</tbody></table>"


def _row(row: Mapping[str, Any], more: str, *, under: bool = False) -> str:
    usable = row["usable"]
    label = escape(str(row.get("label") or row["name"]))
    state = f"<span class='cnx-state {'yes' if usable else 'no'}'>{escape(state_word(row))}</span>"
    reason = escape(str(row.get("reason") or more))
    return f"<tr class='{'under' if under else ''}'><td>{label}</td><td>{state}</td><td class='cnx-reason'>{reason}</td></tr>"
