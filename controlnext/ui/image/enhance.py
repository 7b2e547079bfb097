"""Layout of detail and enlarging of finished pictures, and what it says of a recipe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from controlnext.ui.shared import Updates

if TYPE_CHECKING:
    from controlnext.models.upscalers import UpscalerFolders
    from controlnext.recipes.recipe import Recipe

PARTS = [("Faces", "face"), ("Hands", "hands")]
FACTORS = [("2×", 2), ("4×", 4)]
LANCZOS = ("Lanczos", "")


@dataclass(frozen=True)
class EnhanceArea:
    """The components of the area.

    Attributes:
        always: whether each new picture is enhanced, too.
        enlarged: whether that enlarges it.
    """

    fold: gr.Accordion
    detail: gr.CheckboxGroup
    upscale: gr.Radio
    upscaler: gr.Dropdown
    always: gr.Checkbox
    enlarged: gr.Checkbox
    detail_button: gr.Button
    upscale_button: gr.Button

    def inputs(self) -> set[gr.components.Component]:
        """Return everything a picture depends on."""
        return {self.detail, self.upscale, self.upscaler, self.always, self.enlarged}

    def values(self, data: Mapping[gr.components.Component, Any]) -> dict[str, Any]:
        """Return the fields of the recipe of a new picture."""
        values: dict[str, Any] = {"detail": data[self.detail] or []} if data[self.always] else {}
        if data[self.enlarged]:
            values |= {"upscale": data[self.upscale], "upscaler": data[self.upscaler] or ""}
        return values

    def updates(self, recipe: Recipe) -> Updates:
        """Return the values that show a restored recipe."""
        updates: Updates = {self.always: bool(recipe.detail), self.enlarged: recipe.upscale > 1}
        if recipe.detail:
            updates[self.detail] = list(recipe.detail)
        if recipe.upscale > 1:
            updates |= {self.upscale: recipe.upscale, self.upscaler: recipe.upscaler}
        return updates


def enhance_area(upscalers: UpscalerFolders) -> EnhanceArea:
    """Lay the area out; must be called inside a `gr.Blocks` context."""
    with gr.Accordion("Detail and upscale", open=False, elem_classes="cnx-fold", elem_id="cnx-enhance") as fold:
        with gr.Row(elem_classes="cnx-tight"):
            detail = gr.CheckboxGroup(
                PARTS, value=["face"], label="Detail", min_width=150, elem_id="cnx-detail-parts",
                info="Drawn again at full size, under the same control.",
            )  # fmt: skip
            upscale = gr.Radio(FACTORS, value=2, label="Upscale", min_width=90, elem_id="cnx-upscale-times")
            upscaler = gr.Dropdown(
                upscaler_choices(upscalers), value="", label="By", min_width=120, elem_id="cnx-upscaler"
            )
        with gr.Row(elem_classes="cnx-tight"):
            always = gr.Checkbox(
                False, label="Detail with every picture", min_width=110, elem_id="cnx-detail-always", container=False
            )
            enlarged = gr.Checkbox(
                False, label="Upscale every picture", min_width=110, elem_id="cnx-upscale-always", container=False
            )
        with gr.Row(elem_classes="cnx-tight"):
            detail_button = gr.Button("Add detail", size="md", min_width=110, elem_id="cnx-detail")
            upscale_button = gr.Button("Upscale", size="md", min_width=110, elem_id="cnx-upscale")
    return EnhanceArea(fold, detail, upscale, upscaler, always, enlarged, detail_button, upscale_button)


def upscaler_choices(upscalers: UpscalerFolders) -> list[tuple[str, str]]:
    """Return the choices of what enlarges: Lanczos, and the files of the folders."""
    return [LANCZOS, *((name, name) for name in upscalers.files())]
