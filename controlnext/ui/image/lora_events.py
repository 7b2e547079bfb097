"""Event handlers of the LoRA area of the image tab."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from controlnext.errors import ControlNeXtError
from controlnext.models.defaults import FEW_STEP_VALUES, FEW_STEPS
from controlnext.ui.image.loras import NO_LORA, lora_html
from controlnext.ui.image.tab import OWN_SAMPLER
from controlnext.ui.shared import PRIVATE, note_html, reported_errors

if TYPE_CHECKING:
    from controlnext.studio.studio import Studio
    from controlnext.ui.image.tab import ImageTab

NOTES = {"concurrency_id": "loras", "concurrency_limit": 1}
"""A conflict is measured once for a pair of files; the notes that wait for it hold nothing else up."""


class LoraEvents:
    """The handlers of the area."""

    def __init__(self, tab: ImageTab, studio: Studio) -> None:
        """Remember the parts; `wire` connects them."""
        self.tab = tab
        self.studio = studio

    def wire(self, *, uploads: bool = True) -> None:
        """Connect the components; must be called inside the `gr.Blocks` context of the tab.

        Args:
            uploads: Visitors may add files to the library; otherwise no event takes any.
        """
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
            name.input(
                self.few_steps, [tab.model, tab.annotator, tab.steps, tab.guidance, tab.sampler, *names],
                [tab.steps, tab.guidance, tab.sampler, *(weight for _, weight in area.rows)], queue=False, **PRIVATE,
            )  # fmt: skip
        area.refresh.click(self.refresh, [tab.model, *names], [area.message, *names], **PRIVATE)
        if not uploads:
            area.upload.visible = False
            return
        area.upload.upload(
            self.upload, [tab.model, area.upload, *names], [area.upload, area.message, *names], **PRIVATE
        )

    def few_steps(
        self, model: str, annotator: str, steps: int, guidance: float, sampler: str, *names: str | None
    ) -> list[Any]:
        """Set steps, guidance, sampler and weight as the LoRA for few steps needs them, and back where it was taken away."""
        few = list(FEW_STEP_VALUES.values())
        if FEW_STEPS in names:
            return [*few, *(1.0 if name == FEW_STEPS else gr.update() for name in names)]
        if [steps, guidance, sampler] != few:
            return [gr.update()] * (3 + len(names))
        with reported_errors():
            usual = self.studio.catalogue.resolve(model, annotator, loras=[])
        own = [usual.num_inference_steps, usual.guidance_scale, usual.scheduler or OWN_SAMPLER]
        return [*own, *(gr.update() for _ in names)]

    def describe(self, model: str, annotator: str, name: str | None, weight: float) -> str:
        """Return what is known of a LoRA, and its conflict with the adapter of the chosen annotator."""
        if name in (None, NO_LORA):
            return ""
        with reported_errors():
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
        with reported_errors():
            rows = self.studio.catalogue.loras(model)
        usable = [row["name"] for row in rows if row["usable"]]
        text = f"{len(usable)} can be used with this model."
        if refused := [row["name"] for row in rows if not row["usable"]]:
            text += f" {len(refused)} cannot ({', '.join(refused)}); the tab “What works here” says why."
        return [note_html(text, "quiet"), *self._choices(usable, chosen)]

    def upload(self, model: str, paths: Sequence[str] | None, *chosen: str) -> list[Any]:
        """Copy dropped files into the library if they can be used, and choose them where a row is free."""
        added, refused = [], []
        with reported_errors():
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
        message = note_html(f"Added: {', '.join(added)}.", "quiet") if added else ""
        return [
            None,
            message + "".join(note_html(sentence, "warn") for sentence in refused),
            *self._choices(usable, chosen),
        ]

    @staticmethod
    def _choices(usable: Sequence[str], chosen: Sequence[str]) -> list[Any]:
        return [gr.update(choices=[NO_LORA, *usable], value=name if name in usable else NO_LORA) for name in chosen]
