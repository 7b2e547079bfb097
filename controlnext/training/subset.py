"""Trainable UNet weights: a subset chosen by name, or a LoRA."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from torch import Tensor, nn

from controlnext.training.config import TrainingError

LORA_NAME = "controlnext"


def choose_subset(unet: nn.Module, pattern: str) -> dict[str, nn.Parameter]:
    """Choose the UNet parameters whose whole name matches a regular expression.

    Args:
        unet: a stock UNet.
        pattern: such as `.*attn2.*to_out.*`; empty matches none.

    Returns:
        Parameters by their stock names.

    Raises:
        TrainingError: it matches nothing.
    """
    if not pattern:
        return {}
    regex = re.compile(pattern)
    chosen = {name: parameter for name, parameter in unet.named_parameters() if regex.fullmatch(name)}
    if not chosen:
        example = next(name for name, _ in unet.named_parameters() if name.endswith("to_out.0.weight"))
        raise TrainingError(
            f"trainable.subset {pattern!r} matches no weight of the UNet; whole names are matched, such as {example}."
        )
    return chosen


def count(parameters: Iterable[Tensor]) -> int:
    """Count numbers in tensors."""
    return sum(parameter.numel() for parameter in parameters)


def describe(groups: Mapping[str, int], total: int) -> str:
    """Describe the weights that learn: `module 3,526,400 + subset 102,483,200; the UNet has 2,567,463,684 weights`."""
    return f"{' + '.join(f'{name} {number:,}' for name, number in groups.items())}; the UNet has {total:,} weights"


def add_lora(unet: nn.Module, rank: int, pattern: str) -> dict[str, nn.Parameter]:
    """Add a LoRA to layers of a UNet by PEFT.

    Args:
        unet: a stock UNet; changed.
        rank: of the LoRA; its alpha is the same, so its scale is 1.
        pattern: regular expression of the layers, matched against the whole name.

    Returns:
        The LoRA's parameters by name, float32.

    Raises:
        TrainingError: the expression matches no layer that can have one.
    """
    from peft import LoraConfig

    try:
        unet.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=pattern), adapter_name=LORA_NAME)
    except ValueError as error:
        raise TrainingError(
            f"trainable.lora_targets {pattern!r} matches no layer that can have a LoRA: {error}."
        ) from error
    found = {name: parameter for name, parameter in unet.named_parameters() if f".{LORA_NAME}." in name}
    for parameter in found.values():
        parameter.data = parameter.data.float()
    return found


def merged_lora(unet: nn.Module) -> dict[str, Tensor]:
    """Return the LoRA's change of each layer as differences by stock names, float32 on the CPU."""
    return {
        f"{name}.weight": module.get_delta_weight(LORA_NAME).detach().float().cpu()
        for name, module in unet.named_modules()
        if LORA_NAME in getattr(module, "lora_A", {}) and hasattr(module, "get_delta_weight")
    }
