"""Area of a control: a mask painted over the picture, inside or outside of which the control acts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any

import gradio as gr
from PIL import Image, ImageChops

from controlnext.recipes.areas import area_text
from controlnext.ui.image.start_picture import OPACITY, Painted, paint_editor, painted_alpha
from controlnext.ui.shared import PRIVATE, Updates

EVERYWHERE, INSIDE, OUTSIDE, RESTORED = "everywhere", "inside", "outside", "restored"
CHOICES = [("Everywhere", EVERYWHERE), ("Inside", INSIDE), ("Outside", OUTSIDE)]


@dataclass(frozen=True)
class AreaPanel:
    """The components of the fold.

    Attributes:
        kept: the area of a restored recipe, as that has it.
    """

    fold: gr.Accordion
    where: gr.Radio
    soft: gr.Slider
    editor: gr.ImageEditor
    kept: gr.State

    def inputs(self) -> set[gr.components.Component]:
        """Return everything a run takes from here."""
        return {self.where, self.soft, self.editor, self.kept}

    def text(self, data: Mapping[gr.components.Component, Any], size: tuple[int, int], *, crop: bool = False) -> str:
        """Return the area as a recipe has it, for pictures of a size; empty is everywhere."""
        where, painted = data[self.where], Painted.of(data[self.editor])
        if where == RESTORED:
            return data[self.kept] or ""
        mask = None if where == EVERYWHERE else soft_mask(painted)
        return "" if mask is None else area_text(mask, size, outside=where == OUTSIDE, soft=data[self.soft], crop=crop)

    def updates(self, area: str) -> Updates:
        """Return the values that show a restored area: it is taken as it is."""
        choices = [*CHOICES, ("As restored", RESTORED)] if area else CHOICES
        return {
            self.where: gr.update(choices=choices, value=RESTORED if area else EVERYWHERE),
            self.kept: area,
            self.editor: None,
        }

    def wire(self, picture: gr.Image) -> None:
        """Show the picture to paint on when the fold is opened; called in the context of the page."""
        self.fold.expand(paint_on, [picture, self.editor], self.editor, queue=False, **PRIVATE)


def area_panel(number: int, elem_id: str) -> AreaPanel:
    """Lay the fold of a control out; must be called inside a `gr.Blocks` context.

    Args:
        number: of the control, from 0.
        elem_id: of the fold.
    """
    label = "Area of the control" if number == 0 else "Its area"
    with gr.Accordion(label, open=False, elem_classes="cnx-fold", elem_id=elem_id) as fold:
        with gr.Row(elem_classes="cnx-tight"):
            where = gr.Radio(
                CHOICES, value=EVERYWHERE, label="The control acts", min_width=150, elem_id=f"{elem_id}-where",
                info="Paint over the picture, then choose a side.",
            )  # fmt: skip
            soft = gr.Slider(0, 128, value=16, step=2, label="Soft edge (px)", min_width=110)
        editor = paint_editor(40, elem_id=f"{elem_id}-paint")
    return AreaPanel(fold, where, soft, editor, gr.State(""))


def soft_mask(painted: Painted) -> Image.Image | None:
    """Return what was painted on any layer, L, with the soft edge of the brush; `None` where nothing was."""
    mask: Image.Image | None = None
    for path in painted.layers:
        alpha = painted_alpha(path).point(lambda value: min(255, ceil(value / OPACITY)))
        mask = alpha if mask is None else ImageChops.lighter(mask, alpha)
    return mask if mask is not None and mask.getbbox() else None


def paint_on(picture: str | Image.Image | None, value: Mapping[str, Any] | None) -> dict[str, Any]:
    """Put the picture, a file or the picture itself, into an editor that is empty."""
    if picture is None or (value and (value["background"] or value["layers"])):
        return gr.skip()
    return {"background": picture, "layers": [], "composite": None}
