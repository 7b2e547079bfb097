"""The settings that a resumed training must share with the one before."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from controlnext.training.config import TrainConfig
    from controlnext.training.data.samples import Order
    from controlnext.training.methods import Method

EARLIER_DEFAULTS = {"data.drawing": "classic", "learning.detail_weight": 1.0, "distill.steps": 0}
"""Settings that checkpoints of earlier releases do not name, with their values then."""

_FREE = {"output", "steps", "minutes", "validation", "checkpoints"}
_FREE_DATA = {"cache", "memory_mb", "workers", "max_bad_rows", "cache_latents", "cache_text"}
_FREE_LEARNING = {"batch", "accumulation", "device", "threads", "gradient_checkpointing"}


def settings_of(config: TrainConfig, order: Order, method: Method) -> dict[str, Any]:
    """Return the settings that a resumed training must share with the one before: plain data by name."""
    values = config.model_dump(mode="json", exclude=_FREE)
    settings = {name: value for name, value in values.items() if not isinstance(value, dict)}
    for section, free in (
        ("data", _FREE_DATA),
        ("learning", _FREE_LEARNING),
        ("trainable", {"save_dtype"}),
        ("optimizer", set()),
        ("distill", set()),
    ):
        settings |= {f"{section}.{name}": value for name, value in values[section].items() if name not in free}
    if not config.distill.steps:
        settings = {name: value for name, value in settings.items() if not name.startswith("distill.")} | {
            "distill.steps": 0
        }
    names = [f"{name}{tuple(value.shape)}" for group in method.groups() for name, value in group.parameters.items()]
    return settings | {
        "validation.rows": config.validation.rows,
        "number of samples a step": order.size,
        "number of steps an epoch": order.steps,
        "method": method.name,
        "set of trained weights": hashlib.sha256(json.dumps(names).encode()).hexdigest()[:12],
    }
