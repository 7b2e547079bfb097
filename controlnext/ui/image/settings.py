"""Settings of the image tab as plain values: kept in the browser between visits, and read back with care."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import gradio as gr

from controlnext.recipes.kinds import READY_MADE
from controlnext.ui.shared import PRIVATE, Update, Updates

if TYPE_CHECKING:
    from controlnext.ui.image.events import ImageEvents

STORAGE, SECRET = "controlnext-image", "controlnext"
"""Where the browser keeps the settings. The secret is none: it only has to be the same after a restart of the app."""

LONGEST = 10_000
"""Characters of a text that is put back."""

SETTLED = "() => { window.cnxSettled = true; }"

SHAPES = ("shape", "gamma_curve")
"""Fields whose values are checked where they are used, since any may be written."""


class ImageSettings:
    """The settings of the tab, by name."""

    def __init__(self, image: ImageEvents) -> None:
        """Name the settings.

        Args:
            image: handlers of the tab, which know what depends on a model.
        """
        self.image, tab = image, image.tab
        names = (
            "prompt", "negative_prompt", "model", "annotator", "gamma", "steps", "guidance", "shape", "other_shape", "count", "seed", "new_seed",
            "control_start", "control_end", "gamma_curve", "alpha", "sampler", "resolution",
        )  # fmt: skip
        self.parts: dict[str, gr.components.Component] = {name: getattr(tab, name) for name in names}
        for number, (lora, weight) in enumerate(tab.loras, start=1):
            self.parts |= {f"lora {number}": lora, f"lora {number} weight": weight}
        for kind, panel in tab.panels.items():
            if kind != READY_MADE:
                self.parts |= {f"{kind} {name}": widget for name, widget in panel.widgets.items()}

    def wire(self, page: gr.Blocks) -> None:
        """Keep the settings in the browser, and put them back when `page` is loaded; called in the context of the tab."""
        parts = list(self.parts.values())
        kept = gr.BrowserState({}, storage_key=STORAGE, secret=SECRET)
        names = ", ".join(f'"{name}"' for name in self.parts)
        # Kept by the browser alone: nothing is sent while somebody types. What stands in a fresh page before the kept
        # values are back is not kept.
        keep = (
            f"(...values) => {{ const kept = values.pop(); if (!window.cnxSettled) return kept; "
            f"return Object.fromEntries([{names}].map((name, index) => [name, values[index]])); }}"
        )
        gr.on([part.change for part in parts], None, [*parts, kept], kept, js=keep, **PRIVATE)
        page.load(self.restore, kept, parts, queue=False, **PRIVATE).then(None, js=SETTLED)

    def restore(self, kept: object) -> Updates | Update:
        """Put kept values back; what is not there any more, or makes no sense, stays as it is in a fresh page."""
        if not isinstance(kept, Mapping):
            return gr.skip()
        return self.updates(kept) or gr.skip()

    def updates(self, values: Mapping[str, Any]) -> Updates:
        """Return the values that put settings into the page; those that cannot be are left out."""
        tab, updates = self.image.tab, self._model(values)
        for name, part in self.parts.items():
            if name not in values or part is tab.model:
                continue
            update = updates.get(part)
            choices = update.get("choices") if isinstance(update, dict) else None
            if fits(part, values[name], choices, free=name in SHAPES):
                updates[part] = {**update, "value": values[name]} if isinstance(update, dict) else values[name]
        return updates

    def _model(self, values: Mapping[str, Any]) -> Updates:
        """What depends on the model, where that is another one and can be used."""
        tab, model = self.image.tab, values.get("model")
        usable = [row["name"] for row in self.image.studio.catalogue.models() if row["usable"]]
        if model not in usable or not isinstance(values.get("annotator"), str):
            return {}
        defaults = self.image.model_defaults(model, values["annotator"])
        updates = dict(zip(self.image.model_outputs(), defaults, strict=True))
        updates[tab.model] = {**updates[tab.model], "value": model}
        return updates


def fits(
    part: gr.components.Component, value: object, choices: list[Any] | None = None, *, free: bool = False
) -> bool:
    """Return whether a component can hold a value.

    Args:
        part: the component.
        value: out of a browser or a file.
        choices: those that the component is about to have, as pairs or values; None takes its own.
        free: any text will do, since it is checked where it is used.
    """
    if isinstance(part, gr.Checkbox):
        return isinstance(value, bool)
    if isinstance(part, gr.Dropdown | gr.Radio):
        known = [
            one[1] if isinstance(one, tuple | list) else one for one in (part.choices if choices is None else choices)
        ]
        return isinstance(value, str | int) and (
            value in known or (free and isinstance(value, str) and len(value) <= LONGEST)
        )
    if isinstance(part, gr.Textbox):
        return isinstance(value, str) and len(value) <= LONGEST
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return False
    low, high = (getattr(part, name, None) for name in ("minimum", "maximum"))
    return (low is None or value >= low) and (high is None or value <= high)
