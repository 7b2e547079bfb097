"""The tab "What works here": models, annotators and LoRAs with their states."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import gradio as gr

from controlnext.ui.models import state_word
from controlnext.ui.shared import PRIVATE, reported_errors

if TYPE_CHECKING:
    from controlnext.studio.studio import Studio

USUAL_ADDRESS = "http://127.0.0.1:7860"
ADDRESS = re.compile(r"https?://[A-Za-z0-9.:\[\]-]+(/[A-Za-z0-9._~/-]*)?")

API_EXAMPLE = """```python
from gradio_client import Client, handle_file

studio = Client("{address}")
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
        example = gr.Markdown(api_example(USUAL_ADDRESS), elem_classes="cnx-code")

    def fill(request: gr.Request) -> tuple[str, str]:
        with reported_errors():
            models = with_video_states(studio.catalogue.models(), studio.animator.models())
            html = status_html(models, studio.annotators.status(), studio.catalogue.loras())
        return html, api_example(address_of(request))

    tab.select(fill, None, [shown, example], concurrency_id="status", concurrency_limit=2, **PRIVATE)


def api_example(address: str) -> str:
    """Return the lines that call the page from a program, as Markdown."""
    return API_EXAMPLE.replace("{address}", address)


def address_of(request: gr.Request) -> str:
    """Return the address under which the visitor's browser shows the page, behind any proxy; the usual one if it is not known."""
    headers = request.headers or {}
    found = ADDRESS.match(headers.get("referer") or headers.get("origin") or "")
    return found[0].rstrip("/") if found else USUAL_ADDRESS


def with_video_states(
    models: Sequence[Mapping[str, Any]], animators: Sequence[Mapping[str, Any]]
) -> list[Mapping[str, Any]]:
    """Give video models the state that they have on the video tab: to the image tab they are of no use, whatever their state."""
    states = {row["name"]: row for row in animators}
    return [
        {**row, **{key: states[row["name"]].get(key) for key in ("usable", "state", "reason", "download_bytes")}}
        if row.get("state") == "video" and row["name"] in states
        else row
        for row in models
    ]


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
