"""Fields of the train tab and the training configuration they stand for, with the defaults of `presets/training/`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from controlnext.assets import TRAINING_PRESETS
from controlnext.training.config import TrainConfig, TrainingError, as_config, load_config
from controlnext.training.family_defaults import FAMILY_DEFAULTS
from controlnext.training.start import filled

OWN = "own"
"""Kind of condition that no annotator makes: pairs named by a `metadata.jsonl`."""

NO_START = "none"

CHOSEN_GAMMA = 0
"""Gamma that lets the training choose by how dense its conditions are; a field of numbers cannot be empty."""

FIELDS: Mapping[str, tuple[str, ...]] = {
    "minutes": ("minutes",),
    "steps": ("steps",),
    "seed": ("seed",),
    "batch": ("learning", "batch"),
    "gamma": ("learning", "gamma"),
    "precision": ("learning", "mixed_precision"),
    "rate": ("optimizer", "rate"),
    "module_rate": ("optimizer", "module_rate"),
    "lora_rank": ("trainable", "lora_rank"),
    "every": ("validation", "every"),
    "rows": ("validation", "rows"),
}
"""Field of the page -> where a configuration has it."""


def families(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Name the families of the studio's models that the page trains: those of pictures, the starter first."""
    there = {row["name"] for row in rows}
    return [name for name, row in FAMILY_DEFAULTS.items() if not row.video and row.preset in there]


def starts(rows: Sequence[Mapping[str, Any]], family: str) -> list[str]:
    """Name the adapters that a training of a family can begin from, `none` first."""
    found = [f"{row['name']}/{kind}" for row in rows if row["family"] == family for kind in row["annotators"]]
    return [NO_START, *found]


@lru_cache(maxsize=8)
def preset(family: str) -> TrainConfig:
    """Read what a training of a family takes where nobody says otherwise."""
    return load_config(TRAINING_PRESETS / f"{family}.yaml")


def defaults(family: str) -> dict[str, Any]:
    """Return the page's fields as `presets/training/` has them."""
    config = filled(preset(family))
    return {name: _at(config, place) for name, place in FIELDS.items()} | {
        "gamma": config.learning.gamma or CHOSEN_GAMMA
    }


def config_of(values: Mapping[str, Any], folder: Path, *, settings: Mapping[str, Any] | None = None) -> TrainConfig:
    """Make the configuration of a training.

    Args:
        values: the page's fields by name: `family`, `kind`, `own_kind`, `caption`, `start`, and those of `FIELDS`; what is None
            has its default.
        folder: of the pictures.
        settings: of the annotator.

    Returns:
        The checked configuration; `output` is a name that the caller makes a folder of.

    Raises:
        ConfigError: a value is wrong; the sentence names the field.
        TrainingError: a field is missing.
    """
    family = values["family"]
    if family not in FAMILY_DEFAULTS or FAMILY_DEFAULTS[family].video:
        raise TrainingError(f"The page does not train {str(family)[:40]!r}: choose another base model.")
    made = preset(family).model_dump(exclude_unset=True)
    own = values["kind"] == OWN
    kind = (values.get("own_kind") or "").strip() if own else values["kind"]
    if not kind:
        raise TrainingError("Give your condition a name of one word, such as scribble.")
    for name, place in FIELDS.items():
        if values.get(name) is not None and (name, values[name]) != ("gamma", CHOSEN_GAMMA):
            _section(made, place)[place[-1]] = values[name]
    if not made.get("minutes"):
        made["minutes"] = None
    made |= {"condition": kind, "output": Path(values.get("name") or f"{family}-{kind}")}
    data = made["data"] | {"folder": folder, "caption": values.get("caption") or "", "annotator": None}
    data["annotator_settings"] = {} if own else dict(settings or {})
    start = values.get("start")
    made["data"] = data
    made["trainable"] = made.get("trainable", {}) | {"start": None if start in (None, NO_START) else start}
    return as_config(made)


def safe_name(text: str | None) -> str:
    """Return a name of a training as a folder can have it; empty where nothing of it is left."""
    return re.sub(r"[^\w-]+", "-", (text or "").strip()).strip("-")[:40]


def _section(values: dict[str, Any], place: Sequence[str]) -> dict[str, Any]:
    for key in place[:-1]:
        values[key] = values = dict(values.get(key, {}))
    return values


def _at(config: Any, place: Sequence[str]) -> Any:  # noqa: ANN401 - any section and value
    for key in place:
        config = getattr(config, key)
    return config
