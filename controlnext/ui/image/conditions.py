"""From an upload to its condition: the annotators' settings as widgets, and the one function that makes a condition."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from controlnext.errors import ControlNeXtError
from controlnext.recipes.kinds import AUTO
from controlnext.ui.shared import note_html, open_picture, served_by_html

if TYPE_CHECKING:
    from annotators.base import Annotation, Setting
    from controlnext.studio.protocols import Annotators

SMALLEST_MAP, LARGEST_MAP = 256, 1024
"""Shortest side of a condition in pixels."""


def map_resolution(width: int, height: int) -> int:
    """Return the resolution of the condition for pictures of a size: lines as dense as the adapter has learned them."""
    return min(max(min(width, height), SMALLEST_MAP), LARGEST_MAP)


class ConditionError(ControlNeXtError):
    """A request for a condition that no annotator can serve."""


@dataclass(frozen=True)
class Made:
    """A condition, and how it came about.

    Attributes:
        annotation: The picture, the backend that made it, the note about it, and its data.
        milliseconds: Time it took, with the reading of the upload.
        label: What people call the backend that made it.
    """

    annotation: Annotation
    milliseconds: float
    label: str

    def html(self) -> str:
        """Return the lines shown under the condition."""
        made = self.annotation
        return served_by_html(self.label, self.milliseconds, made.image.size) + note_html(made.note, "warn")


def make_condition(
    annotators: Annotators, path: str, name: str, resolution: int | None, settings: Mapping[str, Any] | None
) -> Made:
    """Return the condition of the upload at `path`.

    Args:
        annotators: The studio's.
        path: File of the upload, in any format and condition.
        name: Key of `ANNOTATORS`.
        resolution: Length of the condition's side as `annotate` understands it, in pixels; `None` keeps the upload's size.
        settings: Values of the annotator's settings by name, and `backend`; what is missing has its default.

    Raises:
        AnnotatorError: The upload, the annotator or a setting is not usable; the text says why.
        ConditionError: `settings` is no mapping.
    """
    if settings is not None and not isinstance(settings, Mapping):
        raise ConditionError(
            f'The settings of an annotator are pairs of name and value, such as {{"low": 80}}; got {settings!r:.80}.'
        )
    begun = time.perf_counter()
    annotation = annotators.annotate(name, open_picture(annotators, path), resolution=resolution, **(settings or {}))
    milliseconds = 1000 * (time.perf_counter() - begun)
    labels = {row["name"]: row["label"] for row in annotators.describe(name)["backends"]}
    return Made(annotation, milliseconds, labels.get(annotation.backend, annotation.backend))


@dataclass(frozen=True)
class SettingsPanel:
    """The widgets of one annotator: a group that is shown when it is chosen.

    Attributes:
        name: Key of `ANNOTATORS`.
        group: The group that is shown or hidden.
        widgets: The widget of each setting by the setting's name; `backend` is one of them where there is a choice.
    """

    name: str
    group: gr.Group
    widgets: Mapping[str, gr.components.Component]

    def values(self, data: Mapping[gr.components.Component, Any]) -> dict[str, Any]:
        """Return the settings by name out of an event's data."""
        return {name: data[widget] for name, widget in self.widgets.items()}

    def updates(self, settings: Mapping[str, Any]) -> dict[gr.components.Component, Any]:
        """Return the values that put `settings` (a recipe's) into the widgets; settings unknown here are left out."""
        return {widget: settings[name] for name, widget in self.widgets.items() if name in settings}


def settings_panel(annotators: Annotators, name: str, *, visible: bool) -> SettingsPanel:
    """Build the widgets of the annotator `name` from its settings, which are data."""
    described = annotators.describe(name)
    widgets: dict[str, gr.components.Component] = {}
    with gr.Group(visible=visible, elem_classes="cnx-settings") as group:
        if len(described["backends"]) > 1:
            widgets["backend"] = gr.Dropdown(
                [
                    ("Best there is", AUTO),
                    *((row["label"], row["name"]) for row in described["backends"] if row["usable"]),
                ],
                value=AUTO,
                label="Made by",
                elem_classes="cnx-inline",
            )
        for setting in sorted(
            described["settings"], key=lambda row: row.kind == "bool"
        ):  # switches last, side by side
            widgets[setting.name] = _widget(setting)
    return SettingsPanel(name, group, widgets)


def _widget(setting: Setting) -> gr.components.Component:
    label = f"{setting.label} ({setting.unit})" if setting.unit else setting.label
    if setting.kind == "bool":
        return gr.Checkbox(setting.default, label=label, info=setting.help or None)
    if setting.kind == "choice":
        return gr.Dropdown(list(setting.choices), value=setting.default, label=label, info=setting.help or None)
    return gr.Slider(
        setting.minimum,
        setting.maximum,
        value=setting.default,
        step=setting.step,
        label=label,
        info=setting.help or None,
    )
