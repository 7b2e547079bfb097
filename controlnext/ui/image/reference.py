"""Reference picture of a run, shown where the folder of IP-Adapters has a file for the base model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from controlnext.recipes.recipe import DEFAULT_SCALE
from controlnext.ui.shared import PRIVATE, Updates, picture_input, reported_errors

if TYPE_CHECKING:
    from PIL import Image

    from controlnext.recipes.recipe import Recipe
    from controlnext.studio.studio import Studio

REFERENCE_HEIGHT = 180


@dataclass(frozen=True)
class ReferencePanel:
    """The components of the fold."""

    fold: gr.Accordion
    picture: gr.Image
    file: gr.Dropdown
    scale: gr.Slider

    def inputs(self) -> set[gr.components.Component]:
        """Return everything a run takes from here."""
        return {self.picture, self.file, self.scale}

    def values(self, data: Mapping[gr.components.Component, Any]) -> dict[str, Any]:
        """Return the fields of the recipe."""
        if not data[self.picture] or not data[self.file]:
            return {}
        return {"ip_adapter": data[self.file], "ip_adapter_scale": data[self.scale]}

    def updates(self, recipe: Recipe, reference: Image.Image | None, studio: Studio) -> Updates:
        """Return the values that show a restored recipe and its reference."""
        there = recipe.ip_adapter in reference_files(studio, recipe.model)
        updates: Updates = {self.picture: reference if there else None}
        if there and reference is not None:
            updates |= self.for_model(studio, recipe.model)
            updates[self.file] = gr.update(choices=reference_files(studio, recipe.model), value=recipe.ip_adapter)
            updates[self.scale] = recipe.ip_adapter_scale
        elif recipe.ip_adapter:
            gr.Warning("The IP-Adapter of this picture is not here, so its reference is left out.")
        return updates

    def for_model(self, studio: Studio, model: str) -> Updates:
        """Show the fold with the files that fit a model, or hide it where there is none."""
        files = reference_files(studio, model)
        return {
            self.fold: gr.update(visible=bool(files)),
            self.file: gr.update(choices=files, value=files[0] if files else None),
        }

    def wire(self, studio: Studio, model: gr.Dropdown) -> None:
        """Follow the model; called in the context of the page."""
        model.change(lambda name: self.for_model(studio, name), model, [self.fold, self.file], queue=False, **PRIVATE)


def reference_panel(studio: Studio, model: str) -> ReferencePanel:
    """Lay the fold out for a model; must be called inside a `gr.Blocks` context."""
    files = reference_files(studio, model)
    with gr.Accordion(
        "Reference picture", open=False, visible=bool(files), elem_classes="cnx-fold", elem_id="cnx-reference-fold"
    ) as fold:
        picture = picture_input(
            label="Reference", sources=["upload", "clipboard"], height=REFERENCE_HEIGHT, buttons=[], elem_id="cnx-looks",
            elem_classes="cnx-frame", placeholder="Drop a picture here\n\nto take its looks",
        )  # fmt: skip
        with gr.Row(elem_classes="cnx-tight"):
            file = gr.Dropdown(files, value=files[0] if files else None, label="IP-Adapter", min_width=120)
            scale = gr.Slider(0, 1.5, value=DEFAULT_SCALE, step=0.05, label="Weight of the reference", min_width=120)
    return ReferencePanel(fold, picture, file, scale)


def reference_files(studio: Studio, model: str) -> list[str]:
    """Return the names of the IP-Adapters that fit a model."""
    with reported_errors():
        return list(studio.references.files(studio.catalogue.preset(model)))
