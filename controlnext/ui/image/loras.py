"""The styles (LoRA) of the image tab: rows to choose from, what is known of each, refresh, and a place to drop new files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from controlnext.errors import ControlNeXtError
from controlnext.recipes.limits import LORA_WEIGHT
from controlnext.ui.shared import PRIVATE, note_html, spoken

if TYPE_CHECKING:
    from controlnext.loras.conflicts import Conflict
    from controlnext.studio.studio import Studio
    from controlnext.ui.image.tab import ImageTab

NO_LORA = "none"
LORA_ROWS = 3

NOTES = {"concurrency_id": "loras", "concurrency_limit": 1}
"""A conflict is measured once for a pair of files; the notes that wait for it hold nothing else up."""

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
    """The components of the area; `LoraEvents.wire` connects them.

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


def build_lora_area(names: Sequence[str]) -> LoraArea:
    """Lay the area out; must be called inside a `gr.Blocks` context.

    Args:
        names: LoRAs that can be used with the model.
    """
    rows, notes = [], []
    for number in range(1, LORA_ROWS + 1):
        rows.append(_row(names, number))
        notes.append(gr.HTML(elem_id=f"cnx-lora-note-{number}"))
    with gr.Row(elem_classes="cnx-tight", equal_height=True):
        upload = gr.File(
            label="Drop LoRA files here (.safetensors)", file_count="multiple", height=84, scale=5, min_width=160,
            elem_id="cnx-lora-upload",
        )  # fmt: skip
        refresh = gr.Button("↻", size="md", scale=0, min_width=44, elem_id="cnx-lora-refresh")
    message = gr.HTML(elem_id="cnx-lora-message")
    return LoraArea(tuple(rows), tuple(notes), refresh, upload, message)


def _row(names: Sequence[str], number: int) -> tuple[gr.Dropdown, gr.Slider]:
    with gr.Row(elem_classes="cnx-tight"):
        name = gr.Dropdown(
            [NO_LORA, *names],
            value=NO_LORA,
            show_label=False,
            container=False,
            min_width=120,
            elem_id=f"cnx-lora-{number}",
        )
        weight = gr.Slider(
            -1, min(2.0, LORA_WEIGHT.maximum), value=0.8, step=0.05, label="Weight", min_width=120,
            elem_id=f"cnx-lora-weight-{number}",
        )  # fmt: skip
    return name, weight


class LoraEvents:
    """The handlers of the area."""

    def __init__(self, tab: ImageTab, studio: Studio) -> None:
        """Remember the parts; `wire` connects them."""
        self.tab = tab
        self.studio = studio

    def wire(self) -> None:
        """Connect the components; must be called inside the `gr.Blocks` context of the tab."""
        tab, area = self.tab, self.tab.lora_area
        names = [name for name, _ in area.rows]
        for (name, weight), note in zip(area.rows, area.notes, strict=True):
            gr.on(
                [name.change, weight.change, tab.annotator.change, tab.model.change],
                self.describe,
                [tab.model, tab.annotator, name, weight],
                note,
                trigger_mode="always_last",
                **NOTES,
                **PRIVATE,
            )
        area.refresh.click(self.refresh, [tab.model, *names], [area.message, *names], **PRIVATE)
        area.upload.upload(
            self.upload, [tab.model, area.upload, *names], [area.upload, area.message, *names], **PRIVATE
        )

    def describe(self, model: str, annotator: str, name: str | None, weight: float) -> str:
        """Return what is known of a LoRA, and how it gets along with the adapter of the chosen annotator."""
        if name in (None, NO_LORA):
            return ""
        with spoken():
            row = next((row for row in self.studio.catalogue.loras(model) if row["name"] == name), None)
            if row is None or not row["usable"]:
                return ""
            try:
                conflict = self.studio.catalogue.conflict(model, annotator, name, weight)
            except ControlNeXtError:  # the model has no adapter for this annotator, which its own places say
                conflict = None
        return lora_html(row, conflict, annotator)

    def refresh(self, model: str, *chosen: str) -> list[Any]:
        """Look into the folders again; what is chosen stays chosen while it is there."""
        with spoken():
            rows = self.studio.catalogue.loras(model)
        usable = [row["name"] for row in rows if row["usable"]]
        text = f"{len(usable)} can be used with this model."
        if refused := [row["name"] for row in rows if not row["usable"]]:
            text += f" {len(refused)} cannot ({', '.join(refused)}); the tab “What works here” says why."
        return [note_html(text, "quiet"), *self._choices(usable, chosen)]

    def upload(self, model: str, paths: Sequence[str] | None, *chosen: str) -> list[Any]:
        """Copy dropped files into the library if they can be used, and choose them where a row is free."""
        added, refused = [], []
        with spoken():
            for path in paths or ():
                try:
                    added.append(self.studio.catalogue.add_lora(model, Path(path)))
                except ControlNeXtError as error:
                    refused.append(str(error))
            usable = [row["name"] for row in self.studio.catalogue.loras(model) if row["usable"]]
        chosen, waiting = list(chosen), [name for name in added if name not in chosen]
        for index, name in enumerate(chosen):
            if name in (None, NO_LORA) and waiting:
                chosen[index] = waiting.pop(0)
        said = note_html(f"Added: {', '.join(added)}.", "quiet") if added else ""
        return [
            None,
            said + "".join(note_html(sentence, "warn") for sentence in refused),
            *self._choices(usable, chosen),
        ]

    @staticmethod
    def _choices(usable: Sequence[str], chosen: Sequence[str]) -> list[Any]:
        return [gr.update(choices=[NO_LORA, *usable], value=name if name in usable else NO_LORA) for name in chosen]


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
    if conflict is None:
        return f"<div class='cnx-lora'>{line}</div>"
    sentence = escape(conflict.sentence(), quote=True)
    worst = "".join(
        f"<tr><td>{escape(one.layer)}</td><td>{one.ratio:.2f}</td><td>{one.cosine:+.2f}</td></tr>"
        for one in conflict.worst
    )
    numbers = f"<table><tr><th>layer</th><th>ratio</th><th>cosine</th></tr>{worst}</table>" if worst else ""
    return (
        f"<details class='cnx-lora'><summary>{line}<b class='cnx-conflict {conflict.word}' title='{sentence}'>"
        f"{escape(WORDS[conflict.word])} with {escape(annotator)}</b></summary><p>{sentence}</p>{numbers}</details>"
    )


def _size(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
