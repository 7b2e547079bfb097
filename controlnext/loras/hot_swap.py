"""A LoRA in the place of another on a compiled UNet, which is not compiled again for it (diffusers' `enable_lora_hotswap`)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Protocol

logger = logging.getLogger(__name__)

PLACE = "hot_swapped"
"""Name in the pipeline of the LoRA that others take the place of."""

LARGEST_RANK = 128
"""Ranks that fit; smaller ones are filled up with zeros."""


class CompiledPipeline(Protocol):
    """What is asked of a diffusers pipeline here."""

    def get_list_adapters(self) -> dict[str, list[str]]:
        """Names of the LoRAs that are loaded, by part of the pipeline."""

    def set_adapters(self, names: list[str], adapter_weights: list[float]) -> object:
        """Make these LoRAs act with these weights."""

    def unload_lora_weights(self) -> object:
        """Remove every LoRA."""


def hot_swap(pipeline: CompiledPipeline, handle: str, weight: float, load: Callable[..., None]) -> bool:
    """Make one LoRA act on a pipeline whose UNet is compiled.

    Args:
        pipeline: with no LoRAs, or with one that was loaded here.
        handle: name of the LoRA, another one for another file.
        weight: of the LoRA.
        load: loads it, given `adapter_name` and `hotswap`.

    Returns:
        Whether it does; False where the UNet is not compiled, other LoRAs are loaded, or its layers are not those of the one before.
    """
    unet: Any = getattr(pipeline, "unet", None)
    if getattr(unet, "_compiled_call_impl", None) is None:
        return False
    loaded = {name for names in pipeline.get_list_adapters().values() for name in names}
    if loaded - {PLACE}:
        return False
    if not loaded:
        unet.enable_lora_hotswap(target_rank=LARGEST_RANK, check_compiled="ignore")
    if not loaded or unet._hot_swapped != handle:
        try:
            load(adapter_name=PLACE, hotswap=bool(loaded))
        except (ValueError, RuntimeError, KeyError) as error:
            logger.info("%s takes no other's place and is loaded by itself: %s", handle, error)
            pipeline.unload_lora_weights()
            return False
        unet._hot_swapped = handle
    pipeline.set_adapters([PLACE], adapter_weights=[weight])
    return True
