"""Controls after the first: rows of the page, and the `controls` parameter of the API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from controlnext.recipes.areas import area_text
from controlnext.recipes.kinds import READY_MADE
from controlnext.recipes.recipe import MAX_CONTROLS, Recipe
from controlnext.studio.conditions import ConditionRequestError, TimedCondition, condition_of
from controlnext.ui.image.area import AreaPanel, area_panel
from controlnext.ui.image.conditions import open_condition
from controlnext.ui.shared import Data, open_picture, picture_input

if TYPE_CHECKING:
    from PIL import Image

    from controlnext.recipes.recipe import ControlUse
    from controlnext.recipes.video_recipe import VideoRecipe
    from controlnext.studio.protocols import Annotators

OFF = "off"
ROWS = MAX_CONTROLS - 1
ORDINALS = ("First", "Second", "Third")
ROW_HEIGHT = 150
SOFTEST = 1024
"""Most pixels of a blur."""


@dataclass(frozen=True)
class ControlRow:
    """The components of one additional control; the row is hidden while its kind is `OFF`."""

    number: int
    group: gr.Group
    kind: gr.Dropdown
    remove: gr.Button
    picture: gr.Image
    condition: gr.Image
    gamma: gr.Slider
    start: gr.Slider
    end: gr.Slider
    ready_map: gr.Checkbox
    served: gr.HTML
    area: AreaPanel

    def condition_inputs(self) -> set[gr.components.Component]:
        """Return what the row's own condition depends on."""
        return {self.kind, self.picture, self.ready_map}

    def inputs(self) -> set[gr.components.Component]:
        """Return everything a run takes from the row."""
        return self.condition_inputs() | {self.gamma, self.start, self.end} | self.area.inputs()

    def used(self, data: Data) -> bool:
        """Return whether the row is in use."""
        return data[self.kind] not in (None, OFF)

    def values(self, data: Data, resolution: int | None = None) -> dict[str, Any]:
        """Return the row's part of a recipe, with the resolution of its condition where one was chosen."""
        ready, kind = data[self.ready_map], data[self.kind]
        return {
            "annotator": READY_MADE if ready else kind,
            "adapter": kind if ready else "",
            "gamma": data[self.gamma],
            "control_start": data[self.start],
            "control_end": data[self.end],
            "resolution": None if ready else resolution,
        }

    def made(self, annotators: Annotators, data: Data, shared: str | None, resolution: int) -> TimedCondition | None:
        """Return the row's condition, or `None` when there is no picture for it.

        Args:
            annotators: The studio's.
            data: Values of the page.
            shared: Path of the first control's picture, which the row takes where it has none; `None` = it has none, or
                it is a ready-made map.
            resolution: Side of the condition in pixels.

        Raises:
            ConditionRequestError: A ready-made map without a picture of the row's own.
        """
        own, ready = data[self.picture], data[self.ready_map]
        if ready and own is None:
            raise ConditionRequestError(
                f"The {ORDINALS[self.number].lower()} control's ready-made map is missing; drop it in."
            )
        if (path := own or shared) is None:
            return None
        return open_condition(annotators, path, READY_MADE if ready else data[self.kind], resolution, {})

    def updates(self, control: ControlUse | None, condition: Image.Image | None) -> dict[gr.components.Component, Any]:
        """Return the values that show a restored control, or hide the row."""
        if control is None:
            hidden = {self.group: gr.update(visible=False), self.kind: OFF, self.picture: None, self.ready_map: False}
            return hidden | self.area.updates("")
        return {
            self.group: gr.update(visible=True),
            self.kind: control.condition_kind,
            self.picture: condition,
            self.ready_map: condition is not None,
            self.gamma: gr.update(value=control.gamma, maximum=max(self.gamma.maximum, control.gamma)),
            self.start: control.control_start,
            self.end: control.control_end,
        } | self.area.updates(control.area)


def control_rows(choices: Sequence[tuple[str, str]], gamma_maximum: float) -> tuple[tuple[ControlRow, ...], gr.Button]:
    """Lay the hidden rows and the button below them out; must be called inside a `gr.Blocks` context."""
    rows = tuple(_row(number, choices, gamma_maximum) for number in range(1, ROWS + 1))
    add = gr.Button("Add a control", size="sm", elem_id="cnx-add-control")
    return rows, add


def _row(number: int, choices: Sequence[tuple[str, str]], gamma_maximum: float) -> ControlRow:
    name = ORDINALS[number]
    with gr.Group(visible=False, elem_classes="cnx-control", elem_id=f"cnx-control-{number + 1}") as group:
        with gr.Row(elem_classes="cnx-tight"):
            kind = gr.Dropdown(
                [*choices, ("off", OFF)],
                value=OFF,
                label=f"{name} control",
                scale=4,
                min_width=120,
                elem_classes="cnx-inline",
                elem_id=f"cnx-control-kind-{number + 1}",
            )
            remove = gr.Button("✕", size="sm", scale=0, min_width=40, elem_id=f"cnx-control-remove-{number + 1}")
        with gr.Row(elem_classes="cnx-pair", equal_height=True):
            picture = picture_input(
                label="Its picture",
                sources=["upload", "clipboard"],
                height=ROW_HEIGHT,
                buttons=[],
                placeholder="The same,\nor drop another",
                elem_id=f"cnx-control-picture-{number + 1}",
                elem_classes="cnx-frame",
            )
            condition = gr.Image(
                label="Its condition",
                format="png",
                interactive=False,
                height=ROW_HEIGHT,
                buttons=["download", "fullscreen"],
                elem_id=f"cnx-control-condition-{number + 1}",
                elem_classes="cnx-frame",
            )
        served = gr.HTML(elem_id=f"cnx-control-served-{number + 1}")
        with gr.Row():
            gamma = gr.Slider(
                0, gamma_maximum, value=1, step=0.05, label="Strength", min_width=100, elem_id=f"cnx-control-gamma-{number + 1}"
            )  # fmt: skip
            ready_map = gr.Checkbox(False, label="Ready-made map", min_width=100)
        with gr.Row():
            start = gr.Slider(0, 1, value=0, step=0.05, label="From", min_width=100)
            end = gr.Slider(0, 1, value=1, step=0.05, label="Until", min_width=100)
        area = area_panel(number, f"cnx-area-{number + 1}")
    return ControlRow(number, group, kind, remove, picture, condition, gamma, start, end, ready_map, served, area)


@dataclass(frozen=True)
class SentArea:
    """Where a control acts as a client sent it.

    Attributes:
        path: of a mask, white where it acts; `None` is everywhere.
        outside: it acts where the mask is black.
        soft: blur of its edge in pixels.
    """

    path: str | None = None
    outside: bool = False
    soft: float = 0.0

    def text(self, annotators: Annotators, recipe: Recipe | VideoRecipe) -> str:
        """Return the area as a recipe of that size has it.

        Raises:
            ConditionRequestError: a value has the wrong form.
            AnnotatorError: the mask is no picture.
        """
        if not isinstance(self.outside, bool):
            raise ConditionRequestError(f"area_outside is true or false; got {self.outside!r:.80}.")
        number = isinstance(self.soft, int | float) and not isinstance(self.soft, bool)
        if not number or not 0 <= self.soft <= SOFTEST:
            raise ConditionRequestError(f"area_soft is a number of pixels from 0 to {SOFTEST}; got {self.soft!r:.80}.")
        if self.path is None:
            return ""
        mask, crop = open_picture(annotators, self.path), isinstance(recipe, Recipe) and recipe.crop
        size = recipe.width, recipe.height
        return area_text(mask, size, outside=self.outside, soft=float(self.soft), crop=crop)


@dataclass(frozen=True)
class SentControl:
    """An additional control as a client sent it.

    Attributes:
        values: its fields for `Studio.resolve`.
        path: its own picture; `None` takes that of the first control.
        area: where it acts.
    """

    values: Mapping[str, Any]
    path: str | None
    area: SentArea = SentArea()

    @classmethod
    def read(cls, value: object) -> list[SentControl]:
        """Take apart what was sent as `controls`.

        Raises:
            ConditionRequestError: It is no list of objects, or an image in it is no file.
        """
        if value is None:
            return []
        if not isinstance(value, list) or not all(isinstance(one, Mapping) for one in value):
            raise ConditionRequestError(
                'controls is a list of objects such as {"annotator": "depth", "gamma": 0.5}, or null; got '
                f"{value!r:.80}."
            )
        return [cls._one(one) for one in value]

    @classmethod
    def _one(cls, one: Mapping[str, Any]) -> SentControl:
        values = dict(one)
        image, settings = values.pop("image", None), values.pop("settings", None) or {}
        if not isinstance(settings, Mapping):
            raise ConditionRequestError(
                f"The settings of a control are an object with names and values; got {settings!r:.80}."
            )
        settings = dict(settings)
        if values.get("annotator", READY_MADE) == READY_MADE:
            values["adapter"] = settings.pop("adapter", values.get("adapter", ""))
        area = SentArea(
            _sent_path(values.pop("area", None), "area"), values.pop("area_outside", False), values.pop("area_soft", 0)
        )
        return cls(values | {"annotator_settings": settings}, _sent_path(image, "image"), area)

    def made(self, annotators: Annotators, control: ControlUse, shared: str, recipe: Recipe) -> TimedCondition:
        """Return the condition of this control, which `control` is in the recipe."""
        return condition_of(annotators, open_picture(annotators, self.path or shared), control, recipe)


def _sent_path(sent: Any, name: str) -> str | None:  # noqa: ANN401 - as a client sent it
    # Gradio has checked that such an object names an upload, and nothing else on this disk.
    is_file = isinstance(sent, Mapping) and (sent.get("meta") or {}).get("_type") == "gradio.FileData"
    if sent is not None and not is_file:
        raise ConditionRequestError(
            f"The {name} of a control is a file, sent like `image` itself (handle_file in Python); got {sent!r:.80}."
        )
    return sent["path"] if is_file else None
