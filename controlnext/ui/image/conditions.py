"""Conditions on the page: the settings of an annotator as widgets, and the condition of an upload."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from controlnext.recipes.kinds import AUTO
from controlnext.studio.conditions import TimedCondition, make_condition
from controlnext.ui.shared import note_html, open_picture, served_by_html

if TYPE_CHECKING:
    from annotators.base import Setting
    from controlnext.studio.protocols import Annotators


def open_condition(
    annotators: Annotators, path: str, name: str, resolution: int | None, settings: Mapping[str, Any] | None
) -> TimedCondition:
    """Make the condition of the upload at `path`; the rest as `make_condition` takes it."""
    return make_condition(annotators, open_picture(annotators, path), name, resolution, settings)


def condition_html(made: TimedCondition) -> str:
    """Return the lines shown under a condition."""
    annotation = made.annotation
    return served_by_html(made.label, made.milliseconds, annotation.image.size) + note_html(annotation.note, "warn")


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
