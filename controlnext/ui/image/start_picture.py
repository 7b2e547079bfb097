"""Start picture of a run: the picture, the strength, and a mask painted on it."""

from __future__ import annotations

from abc import ABCMeta
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.component_meta import ComponentMeta
from PIL import Image, ImageChops

from controlnext.recipes.inputs import InputError
from controlnext.recipes.recipe import DEFAULT_STRENGTH
from controlnext.ui.shared import open_picture

if TYPE_CHECKING:
    from controlnext.recipes.inputs import Inputs
    from controlnext.studio.protocols import Annotators

EDITOR_HEIGHT = 320
PAINT, OPACITY = "#ff5a5f", 0.7
PAINTED = 64
"""Opacity, of 255, from which a pixel counts as painted; lower is the soft edge of the brush."""


@dataclass(frozen=True)
class Painted:
    """What the editor holds: files of the picture and of what was painted on it, as the browser drew them."""

    background: str | None
    layers: tuple[str, ...] = ()

    @classmethod
    def of(cls, value: Mapping[str, Any] | None) -> Painted:
        """Take the value of the editor, which is its own kind of mapping or nothing."""
        return cls(None) if value is None else cls(value["background"], tuple(value["layers"]))


@dataclass(frozen=True)
class StartPanel:
    """The components of the accordion."""

    fold: gr.Accordion
    editor: gr.ImageEditor
    strength: gr.Slider

    def inputs(self) -> set[gr.components.Component]:
        """Return everything a run takes from here."""
        return {self.editor, self.strength}

    def picture(self, data: Mapping[gr.components.Component, Any]) -> str | None:
        """Return the path of the start picture; `None` where there is none."""
        return Painted.of(data[self.editor]).background

    def values(self, data: Mapping[gr.components.Component, Any]) -> dict[str, Any]:
        """Return the fields of the recipe that say how much is redrawn."""
        return {"strength": data[self.strength]} if self.picture(data) else {}

    def updates(self, inputs: Inputs, strength: float | None) -> dict[gr.components.Component, Any]:
        """Return the values that show a restored start picture and its mask."""
        if inputs.init_image is None:
            return {self.editor: None, self.fold: gr.update(open=False)}
        image = inputs.init_image
        layers = [] if inputs.mask is None else [layer_of(inputs.mask)]
        composite = image.convert("RGBA")
        for layer in layers:
            composite.alpha_composite(layer)
        value = {"background": image.convert("RGBA"), "layers": layers, "composite": composite}
        return {self.editor: value, self.strength: strength or DEFAULT_STRENGTH, self.fold: gr.update(open=True)}


def _files_of(self: gr.ImageEditor, payload: Any) -> Any:  # noqa: ANN401 - Gradio's EditorData and EditorValue
    if payload is None or payload.id is not None:
        return gr.ImageEditor.preprocess(self, payload)
    files = [None if file is None else file.path for file in (payload.background, payload.composite)]
    return {"background": files[0], "layers": [file.path for file in payload.layers], "composite": files[1]}


# Hands over the uploaded files as they are, as `picture_input` does. Gradio would encode them once more into its cache, often
# under the very path of the upload, where another event may be reading it.
_Editor = ABCMeta.__new__(
    ComponentMeta,
    "PaintEditor",
    (gr.ImageEditor,),
    {"preprocess": _files_of, "is_template": True, "__module__": __name__, "__doc__": "See `paint_editor`."},
)


def paint_editor(brush: int, **options: Any) -> gr.ImageEditor:
    """Return an editor in which a mask is painted over a picture; `brush` is the size of its brush in pixels."""
    return _Editor(
        show_label=False, height=EDITOR_HEIGHT, sources=["upload", "clipboard"], image_mode="RGBA", format="png",
        type="filepath", transforms=(), layers=False, buttons=["fullscreen"],
        brush=gr.Brush(colors=[(PAINT, OPACITY)], color_mode="fixed", default_size=brush), elem_classes="cnx-frame", **options,
    )  # fmt: skip


def start_panel() -> StartPanel:
    """Lay the accordion out; must be called inside a `gr.Blocks` context."""
    with gr.Accordion("Start from a picture", open=False, elem_classes="cnx-fold", elem_id="cnx-start-fold") as fold:
        editor = paint_editor(
            24, elem_id="cnx-start",
            placeholder="Drop a picture to start from,\n\nthen paint over what is to be repainted",
        )  # fmt: skip
        strength = gr.Slider(
            0.05, 1, value=DEFAULT_STRENGTH, step=0.05, label="Strength", elem_id="cnx-strength",
            info="1 redraws everything, 0.3 keeps most. What you paint over is repainted, the rest stays as it is.",
        )  # fmt: skip
    return StartPanel(fold, editor, strength)


def start_images(annotators: Annotators, painted: Painted) -> tuple[Image.Image | None, Image.Image | None]:
    """Open what the editor holds.

    Returns:
        The start picture and its mask (L, white where it was painted over); `None` where there is none.

    Raises:
        AnnotatorError: a file is not a picture; the text says why.
    """
    if painted.background is None:
        return None, None
    image = open_picture(annotators, painted.background)
    return image, painted_mask(painted.layers, image.size)


def painted_mask(layers: Sequence[str | Path], size: tuple[int, int]) -> Image.Image | None:
    """Return the mask of what was painted on any layer, of a size in pixels; `None` where nothing was.

    Raises:
        InputError: a layer is not a picture.
    """
    mask = Image.new("L", size)
    for path in layers:
        alpha = painted_alpha(path).resize(size, Image.Resampling.NEAREST)
        mask = ImageChops.lighter(mask, alpha.point(lambda value: 255 * (value >= PAINTED)))
    return mask if mask.getbbox() else None


def painted_alpha(path: str | Path) -> Image.Image:
    """Return how opaque a painted layer is, L.

    Raises:
        InputError: it is not a picture.
    """
    try:
        with Image.open(path) as layer:
            return layer.convert("RGBA").getchannel("A")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError("What was painted cannot be read: clear it and paint again.") from error


def layer_of(mask: Image.Image) -> Image.Image:
    """Return the painted layer that stands for a mask."""
    layer = Image.new("RGBA", mask.size, PAINT)
    layer.putalpha(mask.convert("L").point(lambda value: round(OPACITY * 255) * (value > 127)))
    return layer
