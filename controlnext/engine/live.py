"""Live pictures: a recipe in few steps, by a copy of a small model in the precisions that this processor multiplies faster."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch

from controlnext.device import Device, quick_dtype
from controlnext.engine.eight_bit import EightBitConv, faster
from controlnext.engine.engine import Engine
from controlnext.engine.fused_loras import is_small
from controlnext.engine.small_decoder import small_decoder
from controlnext.method.control_cache import ControlCache
from controlnext.method.model import IMAGE_CHANNELS
from controlnext.models.defaults import FEW_STEP_VALUES, FEW_STEPS

if TYPE_CHECKING:
    from controlnext.method.adapter import ControlNeXtAdapter
    from controlnext.models.presets import Preset
    from controlnext.recipes.recipe import Recipe

LIVE_STEPS = 4
"""Steps of a live picture by a LoRA for few steps."""

LIVE_STEPS_CONTROLLED = 2
"""Steps by the LoRA `FEW_STEPS` under a control, which is followed as closely as in four."""

LIVE_STEPS_OTHERWISE = 8

MOST_PROMPTS = 16
"""Prompts that are kept as numbers."""

_NAMED = re.compile(r"\b(lcm|lightning|turbo|hyper|dmd2?)\b")


def live_recipe(recipe: Recipe, own_steps: int | None, loras: Iterable[Mapping[str, Any]]) -> tuple[Recipe, str]:
    """Return what a live picture of a recipe is made by.

    Args:
        recipe: as the page shows it.
        own_steps: steps that the model itself needs without guidance, where there is no LoRA `FEW_STEPS`; None if it needs guidance.
        loras: rows of the library's LoRAs for the model.

    Returns:
        One picture, few steps; and the LoRA for few steps that it uses, empty if none.
    """
    names = [str(row["name"]) for row in loras if row["usable"]]
    used = {use.name for use in recipe.loras}
    few = next((name for name in names if name == FEW_STEPS or (not own_steps and _says_few_steps(name))), "")
    by_lora = LIVE_STEPS_CONTROLLED if few == FEW_STEPS and recipe.all_controls else LIVE_STEPS
    steps = by_lora if few else own_steps or min(LIVE_STEPS_OTHERWISE, recipe.num_inference_steps)
    changes: dict[str, Any] = {
        "num_images": 1,
        "ip_adapter": "",
        "num_inference_steps": math.ceil(steps / (recipe.strength or 1.0)),
        "guidance_scale": 1.0 if own_steps or few else recipe.guidance_scale,
        "scheduler": None,
    }
    if few:
        trailing = FEW_STEP_VALUES["scheduler"]
        changes["scheduler"] = trailing if few == FEW_STEPS else "lcm" if "lcm" in few.lower() else "euler"
        if few not in used:
            changes["loras"] = [*recipe.loras, {"name": few}]
    return recipe.replace(**changes), few


def _says_few_steps(name: str) -> bool:
    """Whether the name of a LoRA is one of those for few steps."""
    return bool(_NAMED.search(re.sub(r"[_.\-]+", " ", name.lower())))


class LiveCopy(Engine):
    """A copy of a small model that draws live pictures: it keeps the last prompts as numbers."""

    _kept: dict[tuple[object, ...], dict[str, Any]]

    @classmethod
    def of(cls, engine: Engine) -> LiveCopy:
        """Load the copy of a model, in the precision and with the decoder that this processor runs faster.

        Args:
            engine: the loaded model.
        """
        dtype = quick_dtype()
        preset = engine.preset.model_copy(update={"precision": str(dtype).removeprefix("torch.")})
        made = cls.load(preset, Device("cpu", dtype), ControlCache())
        made._kept = {}
        vae, unet = made.pipeline.vae, made.pipeline.unet
        for part in (unet, vae):
            part.to(memory_format=torch.channels_last)
        side = unet.config.sample_size
        latents = torch.randn(1, unet.config.in_channels, side, side, dtype=dtype)
        decoder = small_decoder(preset, vae) or vae.decoder
        vae.decoder = faster(decoder.to(memory_format=torch.channels_last), latents, overwrite=True)
        return made

    def _adapter(self, kind: str) -> ControlNeXtAdapter:
        known = kind in self._adapters
        adapter = super()._adapter(kind)
        if not known:  # its weights are not merged with others, as those of the UNet are with LoRAs
            side = self.pipeline.unet.config.sample_size * self.pipeline.vae_scale_factor
            picture = torch.rand(1, IMAGE_CHANNELS, side, side, dtype=self.pipeline.unet.dtype)
            adapter.module = faster(adapter.module, picture, torch.tensor(0.0))
        return adapter

    def _words(self, recipe: Recipe) -> dict[str, Any]:
        given = super()._words(recipe)
        if "prompt" not in given:  # embeddings and weighted words are numbers already
            return given
        guided = recipe.guidance_scale > 1
        negative = given["negative_prompt"] if guided else None
        key = given["prompt"], negative, recipe.loras
        if key not in self._kept:
            with torch.inference_mode():
                words, others = self.pipeline.encode_prompt(given["prompt"], self.pipeline.device, 1, guided, negative)
            while len(self._kept) >= MOST_PROMPTS:
                del self._kept[next(iter(self._kept))]
            self._kept[key] = {"prompt_embeds": words, "negative_prompt_embeds": others}
        return self._kept[key]


class LiveEngine:
    """The engine that draws live pictures: the loaded one, or a copy of a small one that is quicker."""

    def __init__(self) -> None:
        """Start without a copy."""
        self._copy: LiveCopy | None = None
        self._preset: Preset | None = None

    def of(self, engine: Engine) -> Engine:
        """Return the engine to draw with; makes the copy when it is first asked for one.

        Args:
            engine: the loaded model in its usual precision.
        """
        if self._preset != engine.preset:
            self._preset, self._copy = engine.preset, None
            if _is_small(engine):
                self._copy = LiveCopy.of(engine)
        return self._copy or engine


def _is_small(engine: Engine) -> bool:
    """Whether a model is drawn by a copy: few steps are enough for it, it is on the CPU, and there is room for two."""
    return engine.preset.live_steps is not None and is_small(engine.pipeline.unet)


def precision_of(engine: Engine) -> str:
    """Return the precision of an engine's weights as torch names it, such as `bfloat16`."""
    return str(engine.pipeline.unet.dtype).removeprefix("torch.")


def draws_in_eight_bits(engine: Engine) -> bool:
    """Whether an engine's decoder or a control module in use convolves in 8-bit integers."""
    controls = (control.adapter.module for control in engine.pipeline.controlnexts.values())
    return any(
        isinstance(part, EightBitConv) for whole in (engine.pipeline.vae, *controls) for part in whole.modules()
    )
