"""Restore a saved picture: put its recipe and its conditions back into the page."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

import gradio as gr

from controlnext.models.presets import DEFAULT_MODEL
from controlnext.recipes.foreign import Foreign, read_foreign
from controlnext.recipes.inputs import Inputs, picture_of
from controlnext.recipes.kinds import READY_MADE
from controlnext.recipes.png import read_inputs, read_png
from controlnext.recipes.recipe import Recipe, RecipeError
from controlnext.ui.image.loras import NO_LORA
from controlnext.ui.image.tab import (
    GAMMA_MAXIMUM,
    GUIDANCE_MAXIMUM,
    OWN_SAMPLER,
    STEPS_MAXIMUM,
    ImageTab,
    gamma_info,
    kind_choices,
)
from controlnext.ui.shared import PRIVATE, Updates, reported_errors, served
from controlnext.ui.sizes import named, picture_size_choices

if TYPE_CHECKING:
    from controlnext.studio.studio import Studio
    from controlnext.ui.shared import Update


class Restore:
    """The handlers that put a saved picture's recipe back into the page."""

    def __init__(self, tab: ImageTab, studio: Studio, prompts: Mapping[str, str]) -> None:
        """Remember the parts.

        Args:
            tab: The page.
            studio: Says what models and LoRAs there are.
            prompts: Words that go with an example picture, by the path of the picture.
        """
        self.tab = tab
        self.studio = studio
        self.prompts = prompts

    def outputs(self) -> list[gr.components.Component]:
        """Return everything that is put back."""
        tab = self.tab
        groups = [tab.reference.fold, tab.start.fold, *(row.group for row in tab.controls)]
        return [*(tab.inputs() - {tab.resolution}), *groups, tab.restored]

    def wire(self) -> None:
        """Connect the components; must be called inside the `gr.Blocks` context of the tab."""
        tab, outputs = self.tab, self.outputs()
        tab.picture.upload(self.uploaded, [tab.picture, tab.restored, tab.model], outputs, **PRIVATE)
        tab.restore.upload(self.asked, [tab.restore, tab.model], outputs, **PRIVATE)
        if tab.examples is not None:
            tab.examples.select(
                self.example, None, [tab.picture, tab.ready_map, tab.prompt, tab.restored, tab.pose.editor], **PRIVATE
            )

    def uploaded(self, path: str, restored: bool, model: str = DEFAULT_MODEL) -> Update:
        """Restore what was dropped into the picture if it carries a recipe; any other picture is just that."""
        with reported_errors():
            recipe = read_png(path)
            if recipe is not None:
                return self.put(recipe, path)
            foreign = read_foreign(path)
        if foreign is not None:
            return {
                self.tab.pose.editor: "",
                self.tab.ready_map: False,
                self.tab.restored: False,
                **self._foreign(foreign, model),
            }
        if restored:  # the ready map before it was a restored one; this is a new picture
            return {self.tab.pose.editor: "", self.tab.ready_map: False, self.tab.restored: False}
        return {self.tab.pose.editor: ""}

    def asked(self, path: str, model: str = DEFAULT_MODEL) -> Updates:
        """Restore the picture given to "Restore".

        Raises:
            gr.Error: It carries no recipe.
        """
        with reported_errors():
            recipe = read_png(path)
            if recipe is None and (foreign := read_foreign(path)) is not None:
                return self._foreign(foreign, model)
            if recipe is None:
                raise RecipeError(
                    "This picture carries no recipe; give a PNG saved by this app, as it was saved (a screenshot or a "
                    "picture sent through a messenger has lost it)."
                )
            return self.put(recipe, path)

    def example(self, event: gr.SelectData) -> Updates:
        """Take the clicked example as the picture, and its words."""
        path = list(self.prompts)[event.index]
        picture = served(Path(path), self.tab.picture)
        tab = self.tab
        updates: Updates = {tab.picture: picture, tab.ready_map: False, tab.restored: False, tab.pose.editor: ""}
        if self.prompts[path]:
            updates[self.tab.prompt] = self.prompts[path]
        return updates

    def put(self, recipe: Recipe, path: str | Path | None) -> Updates:
        """Return the updates that put a recipe into the page.

        Args:
            recipe: what is put back.
            path: PNG with the pictures that it was made with; None where there is none.
        """
        tab = self.tab
        inputs = Inputs() if path is None else read_inputs(path)
        pictures = [picture_of(one) for one in inputs.conditions]
        condition = next(iter(pictures), None)
        kind = recipe.condition_kind
        updates: Updates = {
            tab.pose.editor: recipe.pose,
            tab.picture: None if recipe.pose else condition,  # an edited pose is drawn again
            tab.ready_map: condition is not None and not recipe.pose,
            tab.restored: condition is not None and not recipe.pose,
            tab.prompt: recipe.prompt,
            tab.negative_prompt: recipe.negative_prompt,
            tab.seed: recipe.seed,
            tab.new_seed: False,
            tab.count: gr.update(value=recipe.num_images, maximum=max(4, recipe.num_images)),
            tab.steps: stretched(recipe.num_inference_steps, STEPS_MAXIMUM),
            tab.guidance: stretched(recipe.guidance_scale, GUIDANCE_MAXIMUM),
            tab.gamma: stretched(recipe.gamma, GAMMA_MAXIMUM),
            tab.alpha: recipe.alpha,
            tab.control_start: recipe.control_start,
            tab.control_end: recipe.control_end,
            tab.sampler: recipe.scheduler or OWN_SAMPLER,
            tab.gamma_curve: recipe.gamma_curve,
            tab.other_shape: "crop" if recipe.crop else "pad",
            tab.people: "\n".join(person.line() for person in recipe.people),
        }
        updates |= (
            tab.start.updates(inputs, recipe.strength) | tab.enhance.updates(recipe) | tab.area.updates(recipe.area)
        )
        updates |= tab.reference.updates(recipe, inputs.reference, self.studio)
        others = list(zip_longest(recipe.controls, pictures[1 : len(recipe.controls) + 1]))
        for index, row in enumerate(tab.controls):
            updates |= row.updates(*(others[index] if index < len(others) else (None, None)))
        if READY_MADE in tab.panels:  # the condition inside a picture is final
            updates |= {widget: widget.value for widget in tab.panels[READY_MADE].widgets.values()}
        if kind in tab.panels:
            updates[tab.annotator] = kind
            updates |= tab.panels[kind].updates(recipe.annotator_settings)
        elif kind:  # one that a training brought
            updates[tab.annotator] = gr.update(choices=kind_choices([*tab.panels, kind]), value=kind)
        updates |= self._model(recipe) | self._loras(recipe)
        gr.Info("The settings are back as they were when this picture was made.", title="Restored", duration=5)
        return updates

    def _foreign(self, foreign: Foreign, model: str) -> Updates:
        """Take what maps of a picture of another program; the chosen model, its control and the picture stay."""
        tab, values = self.tab, foreign.values
        updates: Updates = {tab.new_seed: False} if "seed" in values else {}
        places = {
            "prompt": tab.prompt,
            "negative_prompt": tab.negative_prompt,
            "seed": tab.seed,
            "scheduler": tab.sampler,
        }
        updates |= {place: values[name] for name, place in places.items() if name in values}
        if "num_inference_steps" in values:
            updates[tab.steps] = stretched(values["num_inference_steps"], STEPS_MAXIMUM)
        if "guidance_scale" in values:
            updates[tab.guidance] = stretched(values["guidance_scale"], GUIDANCE_MAXIMUM)
        if values.keys() & {
            "num_inference_steps",
            "guidance_scale",
        }:  # of a model without the LoRAs that the page shows
            updates |= {name: NO_LORA for name, _ in tab.loras}
        size = values.get("width"), values.get("height")
        rows = {row["name"]: row for row in self.studio.catalogue.models()}
        if None not in size and model in rows and rows[model]["sizes"]:
            sizes = rows[model]["sizes"]
            if all(sizes["minimum"] <= side <= sizes["maximum"] for side in size):
                updates[tab.shape] = gr.update(
                    choices=[*picture_size_choices(sizes), (f"{size[0]} × {size[1]}  (restored)", named(*size))],
                    value=named(*size),
                )
            else:
                foreign = foreign.without(
                    "width", "height", f"size {size[0]} × {size[1]}, which {model} does not make"
                )
        gr.Info(escape(foreign.sentence(), quote=False), title="Settings of another program", duration=12)
        return updates

    def _model(self, recipe: Recipe) -> Updates:
        tab = self.tab
        rows = {row["name"]: row for row in self.studio.catalogue.models()}
        if recipe.model not in rows or not rows[recipe.model]["usable"]:
            warn(f"The model {recipe.model!r} of this picture cannot be used here; the chosen one stays.")
            return {}
        gamma = self.studio.catalogue.resolve(recipe.model, recipe.condition_kind or READY_MADE).gamma
        choices = picture_size_choices(rows[recipe.model]["sizes"])
        size = named(recipe.width, recipe.height)
        if size not in [value for _, value in choices]:
            choices.append((f"{recipe.width} × {recipe.height}  (restored)", size))
        return {
            tab.model: recipe.model,
            tab.shape: gr.update(choices=choices, value=size),
            tab.gamma: gr.update(value=recipe.gamma, maximum=max(GAMMA_MAXIMUM, recipe.gamma), info=gamma_info(gamma)),
        }

    def _loras(self, recipe: Recipe) -> Updates:
        tab = self.tab
        usable = [row["name"] for row in self.studio.catalogue.loras(recipe.model) if row["usable"]]
        there = [use for use in recipe.loras if use.name in usable][: len(tab.loras)]
        if gone := [use.name for use in recipe.loras if use not in there]:
            warn(f"Not used, for it is not here or there are too many: LoRA {', '.join(gone)}.")
        updates: Updates = {}
        for index, (name, weight) in enumerate(tab.loras):
            use = there[index] if index < len(there) else None
            updates[name] = gr.update(choices=[NO_LORA, *usable], value=use.name if use else NO_LORA)
            if use:
                updates[weight] = use.weight
        return updates


def warn(text: str) -> None:
    """Show a warning that may hold names out of a file."""
    gr.Warning(escape(text, quote=False))  # shown as HTML


def stretched(value: float, maximum: float) -> Update:
    """Return an update of a slider that makes room for a value beyond its usual end."""
    return gr.update(value=value, maximum=max(maximum, value))
