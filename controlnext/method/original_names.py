"""Key names of the original Stable Diffusion UNet, which some released SDXL files use, converted to diffusers' names."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from controlnext.errors import ControlNeXtError

PREFIX = "model.diffusion_model."
BLOCK = re.compile(r"(input_blocks|middle_block|output_blocks)\.(\d+)\.(?:(\d+)\.)?(.+)")
LAYERS = 3  # sub-blocks in a block of either half: two resnets and a resampler, or three resnets
ENDS = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "label_emb.0.0": "add_embedding.linear_1",
    "label_emb.0.2": "add_embedding.linear_2",
    "input_blocks.0.0": "conv_in",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}
RESNET = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}


class KeyNameError(ControlNeXtError, ValueError):
    """A key that belongs to neither naming."""


def diffusers_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename UNet tensors from the original layout; those in diffusers' layout pass through.

    Args:
        tensors: By key, with or without the prefix `model.diffusion_model.`.

    Returns:
        The same tensors by diffusers' keys.

    Raises:
        KeyNameError: A file in the original layout has a key outside of it.

    Source:
        dvlab-research/ControlNeXt renames SDXL files one by one from a list; this is the rule behind that list.
    """
    original = any(key.startswith((PREFIX, "input_blocks.", "middle_block.", "output_blocks.")) for key in tensors)
    return {diffusers_name(key): tensor for key, tensor in tensors.items()} if original else dict(tensors)


def diffusers_name(key: str) -> str:
    """Return diffusers' name of one key of the original layout.

    Args:
        key: For instance `output_blocks.0.1.transformer_blocks.3.attn2.to_out.0.weight`.

    Returns:
        For instance `up_blocks.0.attentions.0.transformer_blocks.3.attn2.to_out.0.weight`.

    Raises:
        KeyNameError: The key is not of that layout.
    """
    key = key.removeprefix(PREFIX)
    stem, _, leaf = key.rpartition(".")
    if stem in ENDS:
        return f"{ENDS[stem]}.{leaf}"
    if not (match := BLOCK.fullmatch(key)):
        raise KeyNameError(f"{key!r} is no key of an original Stable Diffusion UNet: the file mixes layouts.")
    half, index, part, rest = match[1], int(match[2]), match[3], match[4]
    if half == "middle_block":  # here the first number is the part
        return f"mid_block.attentions.0.{rest}" if index == 1 else f"mid_block.resnets.{index // 2}.{_resnet(rest)}"
    if half == "input_blocks":
        side, (block, layer) = "down_blocks", divmod(index - 1, LAYERS)
    else:
        side, (block, layer) = "up_blocks", divmod(index, LAYERS)
    if rest.startswith("op."):
        return f"{side}.{block}.downsamplers.0.conv.{leaf}"
    if rest.startswith("conv."):
        return f"{side}.{block}.upsamplers.0.conv.{leaf}"
    return (
        f"{side}.{block}.resnets.{layer}.{_resnet(rest)}"
        if part == "0"
        else f"{side}.{block}.attentions.{layer}.{rest}"
    )


def _resnet(rest: str) -> str:
    """Return diffusers' name of a part of a resnet block."""
    stem, _, leaf = rest.rpartition(".")
    if stem not in RESNET:
        raise KeyNameError(f"{rest!r} is no part of a resnet block of an original Stable Diffusion UNet.")
    return f"{RESNET[stem]}.{leaf}"
