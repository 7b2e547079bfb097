"""Default values of a recipe, and parsing of loosely typed input."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from controlnext.errors import shorten
from controlnext.models.presets import AdapterRow, Preset
from controlnext.recipes.kinds import READY_MADE
from controlnext.recipes.recipe import ControlUse, LoraUse, Recipe, RecipeError

FEW_STEPS = "few-steps"
"""Name of a LoRA by `distill.steps`, which takes each step as several guided ones of its teacher."""

FEW_STEP_VALUES: Mapping[str, Any] = {"num_inference_steps": 4, "guidance_scale": 1.0, "scheduler": "ddim_trailing"}
"""Defaults of a recipe with it."""

MOST_FEW_STEPS = 8
"""More steps than a LoRA by `distill.steps` is trained for."""

_SAMPLING = ("num_inference_steps", "guidance_scale", "scheduler", "negative_prompt", "strength")
"""Fields that a person who gives one means for the model without its own LoRAs; a share of four steps may be none."""

_DEFAULTED = {"seed": -1, "width": 0, "height": 0}


def is_default(key: str, value: object) -> bool:
    """Whether a value of a recipe's field stands for its default, as a seed of -1 does."""
    return key in _DEFAULTED and not isinstance(value, bool) and value == _DEFAULTED[key]


def adapter_row(preset: Preset, kind: str) -> AdapterRow:
    """Return a preset's row of one kind of condition, or raise a `RecipeError` with the kinds it has."""
    if kind not in preset.adapters:
        have = f"choose one of {', '.join(preset.adapters)}" if preset.adapters else "it has none at all"
        raise RecipeError(f"{preset.title} has no adapter for {shorten(kind)}; {have}.")
    return preset.adapters[kind]


def default_gamma(preset: Preset, row: AdapterRow) -> float:
    """Default strength: the preset's row, else what the adapter's maker recommends, else the preset's, else 1."""
    if row.gamma is not None:
        return row.gamma
    place = preset.located(row)
    if isinstance(place, Path):
        try:
            return float(json.loads((place / "config.json").read_text(encoding="utf-8"))["gamma"])
        except (OSError, ValueError, LookupError, TypeError):
            pass  # the folder recommends none; a damaged one raises when it is loaded
    return 1.0 if preset.defaults.gamma is None else preset.defaults.gamma


def default_values(
    preset: Preset,
    kind: str = "",
    given: Mapping[str, Any] = MappingProxyType({}),
    has_lora: Callable[[str], bool] = bool,
) -> dict[str, Any]:
    """Return the defaults of a model's recipe, with the control of one kind.

    Args:
        preset: the model.
        kind: of the condition; empty for none.
        given: what the recipe says itself. The model's own LoRAs are for those that say nothing about LoRAs, steps, guidance,
            sampler, what to avoid and a start picture; the LoRA `FEW_STEPS`, own or given, brings `FEW_STEP_VALUES`.
        has_lora: whether a LoRA is in the library.

    Raises:
        RecipeError: the model has no adapter for that kind, or the LoRAs are given in no known form.
    """
    row = adapter_row(preset, kind) if kind else AdapterRow()
    gamma = {"gamma": default_gamma(preset, row)} if kind else {}
    values = {**preset.defaults.values(), **gamma, **row.values()}
    own = () if any(given.get(name) for name in _SAMPLING) else filter(has_lora, values.get("loras", ()))
    values["loras"] = loras = lora_uses(given.get("loras", list(own)))
    return {**values, **(FEW_STEP_VALUES if any(use.name == FEW_STEPS for use in loras) else {})}


def own_loras_fit(fields: Iterable[str]) -> bool:
    """Whether a model's own LoRAs may stay where these fields of a recipe are varied."""
    return not set(fields) & set(_SAMPLING)


def for_another_model(values: Mapping[str, Any], keep: Collection[str] = ()) -> dict[str, Any]:
    """Return the fields of a recipe without the LoRA `FEW_STEPS` and the sampling it brought, but for those to keep: another model has its own."""
    kept = [use for use in lora_uses(values.get("loras", ())) if use.name != FEW_STEPS]
    if len(kept) == len(values.get("loras", ())):
        return dict(values)
    others = {name: value for name, value in values.items() if name in keep or name not in {"loras", *FEW_STEP_VALUES}}
    return others | ({"loras": kept} if kept else {})


def few_steps_notes(recipe: Recipe) -> tuple[str, ...]:
    """Say where the LoRA `FEW_STEPS` follows less closely: with words alone, and in steps that it was not trained for."""
    if all(use.name != FEW_STEPS for use in recipe.loras):
        return ()
    if recipe.guidance_scale > FEW_STEP_VALUES["guidance_scale"] or recipe.num_inference_steps > MOST_FEW_STEPS:
        return ("The LoRA few-steps is made for four steps without guidance: take it away for more, or for guidance.",)
    alone = "Words alone are followed more closely in guided steps: take the LoRA few-steps away."
    return () if recipe.all_controls else (alone,)


def filled_control(preset: Preset, value: Mapping[str, Any] | ControlUse) -> ControlUse:
    """Return an additional control: the values given, and the defaults of its adapter for the rest."""
    if isinstance(value, ControlUse):
        return value
    given = {str(key): part for key, part in value.items() if part is not None}
    if given.get("adapter") == given.get("annotator", READY_MADE):
        given.pop("adapter", None)
    kind = given.get("adapter") or given.get("annotator", READY_MADE)
    if kind == READY_MADE:
        return ControlUse(**given)
    values = default_values(preset, str(kind))
    return ControlUse(**{name: part for name, part in values.items() if name in ControlUse.model_fields} | given)


def control_list(value: object) -> list[Mapping[str, Any] | ControlUse]:
    """Check that additional controls are a list of objects."""
    if isinstance(value, Sequence) and all(isinstance(one, Mapping | ControlUse) for one in value):
        return list(value)
    raise RecipeError(
        'Additional controls are a list of objects such as {"annotator": "depth", "gamma": 0.5}, but were given as '
        f"{shorten(value)}."
    )


def lora_uses(value: object) -> list[LoraUse]:
    """Parse LoRAs: names, pairs, objects, or a mapping of name to weight."""
    if isinstance(value, Mapping):
        value = [{"name": name, "weight": weight} for name, weight in value.items()]
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        raise RecipeError(f"LoRAs are a list of names, or of names with weights, but were given as {shorten(value)}.")
    uses = []
    for one in value:
        if isinstance(one, LoraUse):
            uses.append(one)
        elif isinstance(one, str):
            uses.append(LoraUse(name=one))
        elif isinstance(one, Mapping):
            uses.append(LoraUse(**{str(key): part for key, part in one.items()}))
        elif isinstance(one, Sequence) and len(one) == 2:
            uses.append(LoraUse(name=one[0], weight=one[1]))
        else:
            raise RecipeError(f"A LoRA is a name, or a name with a weight, but one was given as {shorten(one)}.")
    return uses
