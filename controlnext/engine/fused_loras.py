"""LoRAs that are added to the weights of a small model on the CPU, where layers of their own would slow each step down."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline
    from torch import Tensor, nn

    from controlnext.loras.file import LoraInfo
    from controlnext.recipes.recipe import Recipe

SMALL_PARAMETERS = 250_000_000
"""Parameters of the largest UNet whose weights are kept twice."""


def is_small(unet: nn.Module) -> bool:
    """Whether a UNet is on the CPU, as floats, and there is room for its weights twice."""
    weights = list(unet.parameters())
    usual = all(weight.device.type == "cpu" and weight.is_floating_point() for weight in weights)
    return usual and sum(weight.numel() for weight in weights) <= SMALL_PARAMETERS


class FusedLoras:
    """The LoRAs in a pipeline's UNet, and the weights without them."""

    def __init__(self, pipeline: DiffusionPipeline) -> None:
        """Begin without any."""
        self._pipeline = pipeline
        self._plain: list[tuple[Tensor, Tensor]] = []
        self._wrapped: list[tuple[nn.Module, str, nn.Module]] = []
        self._key: tuple[Any, ...] | None = None

    def hold(self, recipe: Recipe, loras: Sequence[tuple[LoraInfo, float]]) -> bool:
        """Whether the weights are those of a recipe: its LoRAs, on top of its adapters."""
        return self._key is not None and self._key == _key(recipe, loras)

    def add(self, recipe: Recipe, loras: Sequence[tuple[LoraInfo, float]]) -> None:
        """Add the loaded LoRAs to the weights, to which the recipe's adapters were applied."""
        unet = self._pipeline.unet
        for name, part in unet.named_modules():
            if hasattr(part, "base_layer"):
                place, _, own = name.rpartition(".")
                self._wrapped.append((unet.get_submodule(place), own, part))
                self._plain.append((part.base_layer.weight, part.base_layer.weight.detach().clone()))
        self._pipeline.fuse_lora(components=["unet"])
        for parent, name, part in self._wrapped:  # peft's layers would only pass each call on
            setattr(parent, name, part.base_layer)
        self._key = _key(recipe, loras)

    def undo(self) -> None:
        """Give the weights their values without LoRAs back, to the bit."""
        if self._key is None:
            return
        for parent, name, part in self._wrapped:
            setattr(parent, name, part)
        self._pipeline.unfuse_lora(components=["unet"])
        with torch.no_grad():
            for weight, plain in self._plain:
                weight.copy_(plain)
        self._key, self._plain, self._wrapped = None, [], []


def _key(
    recipe: Recipe, loras: Sequence[tuple[LoraInfo, float]]
) -> tuple[tuple[tuple[str, float], ...], tuple[tuple[Path, float], ...]]:
    controls = tuple((control.condition_kind, control.alpha) for control in recipe.all_controls)
    return controls, tuple((info.path, weight) for info, weight in loras)
