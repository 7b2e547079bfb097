"""Components of the LoRA area of the image tab: rows to choose from, a note for each, refresh and upload."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import gradio as gr

from controlnext.models.defaults import FEW_STEPS
from controlnext.recipes.limits import LORA_WEIGHT

if TYPE_CHECKING:
    from controlnext.loras.conflicts import Conflict
    from controlnext.recipes.recipe import Recipe

NO_LORA = "none"
LORA_ROWS = 3
USUAL_WEIGHT = 0.8

FEW_STEPS_NOTE = "Four steps without guidance. Choose none here for guided steps."

WORDS: Mapping[str, str] = {
    "none": "no conflict",
    "low": "low conflict",
    "some": "some conflict",
    "high": "high conflict",
    "unknown": "conflict unknown",
}
"""How the page says the words of the conflict meter."""


@dataclass(frozen=True)
class LoraArea:
    """The components of the area; `lora_events` connects them.

    Attributes:
        rows: Dropdown and weight of each row.
        notes: What is known of the LoRA chosen in each row.
        refresh: Looks into the folders again.
        upload: Takes new files.
        message: What became of them.
    """

    rows: tuple[tuple[gr.Dropdown, gr.Slider], ...]
    notes: tuple[gr.HTML, ...]
    refresh: gr.Button
    upload: gr.File
    message: gr.HTML


def lora_rows(recipe: Recipe) -> list[tuple[str, float]]:
    """Return name and weight of each row for a recipe: its first LoRAs, and `NO_LORA` for the rest."""
    return [*((use.name, use.weight) for use in recipe.loras), *[(NO_LORA, USUAL_WEIGHT)] * LORA_ROWS][:LORA_ROWS]


def build_lora_area(loras: Sequence[Mapping[str, Any]], recipe: Recipe) -> LoraArea:
    """Lay the area out; must be called inside a `gr.Blocks` context.

    Args:
        loras: LoRAs of the model, as `Catalogue.loras` lists them.
        recipe: the model's own, whose LoRAs are chosen at first.
    """
    rows, notes = [], []
    usable = {row["name"]: row for row in loras if row["usable"]}
    for number, (chosen, weight) in enumerate(lora_rows(recipe), start=1):
        rows.append(_row(list(usable), number, chosen, weight))
        about = lora_html(usable[chosen], None, "") if chosen in usable else ""
        notes.append(gr.HTML(about, elem_id=f"cnx-lora-note-{number}"))
    with gr.Row(elem_classes="cnx-tight", equal_height=True):
        upload = gr.File(
            label="Drop LoRA files here (.safetensors)", file_count="multiple", height=84, scale=5, min_width=160,
            elem_id="cnx-lora-upload",
        )  # fmt: skip
        refresh = gr.Button("↻", size="md", scale=0, min_width=44, elem_id="cnx-lora-refresh")
    message = gr.HTML(elem_id="cnx-lora-message")
    return LoraArea(tuple(rows), tuple(notes), refresh, upload, message)


def _row(names: Sequence[str], number: int, chosen: str, usual: float) -> tuple[gr.Dropdown, gr.Slider]:
    with gr.Row(elem_classes="cnx-tight"):
        name = gr.Dropdown(
            [NO_LORA, *names],
            value=chosen,
            show_label=False,
            container=False,
            min_width=120,
            elem_id=f"cnx-lora-{number}",
        )
        weight = gr.Slider(
            -1, min(2.0, LORA_WEIGHT.maximum), value=usual, step=0.05, label="Weight", min_width=120,
            elem_id=f"cnx-lora-weight-{number}",
        )  # fmt: skip
    return name, weight


def lora_html(row: Mapping[str, Any], conflict: Conflict | None, annotator: str) -> str:
    """Return one line about a LoRA; the numbers behind the conflict's word open below it.

    Args:
        row: Of `Studio.loras`.
        conflict: With the annotator's adapter; None where there is none.
        annotator: Its name.
    """
    facts = [f"rank {row['rank']}" if row["rank"] else "", row["style"], _size(row["size"])]
    if row["trigger"]:
        facts.append(f"say “{row['trigger']}”")
    line = f"<span>{escape(' · '.join(fact for fact in facts if fact))}</span>"
    more = f"<p>{FEW_STEPS_NOTE}</p>" if row.get("name") == FEW_STEPS else ""
    if conflict is None:
        return f"<div class='cnx-lora'>{line}{more}</div>"
    sentence = escape(conflict.sentence(), quote=True)
    worst = "".join(
        f"<tr><td>{escape(one.layer)}</td><td>{one.ratio:.2f}</td><td>{one.cosine:+.2f}</td></tr>"
        for one in conflict.worst
    )
    numbers = f"<table><tr><th>layer</th><th>ratio</th><th>cosine</th></tr>{worst}</table>" if worst else ""
    return (
        f"<details class='cnx-lora'><summary>{line}<b class='cnx-conflict {conflict.word}' title='{sentence}'>"
        f"{escape(WORDS[conflict.word])} with {escape(annotator)}</b></summary><p>{sentence}</p>{numbers}</details>{more}"
    )


def _size(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
