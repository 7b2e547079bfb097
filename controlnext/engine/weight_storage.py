"""Weights of a UNet in fewer bits: 8-bit floats by diffusers, 8-bit integers by torchao, and UNets of GGUF files."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from controlnext.assets import CONFIGS
from controlnext.errors import ControlNeXtError
from controlnext.models.sources import INDEX_FILE

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

    from controlnext.models.presets import Preset
    from controlnext.models.run_options import Weights

PREFIX = "model.diffusion_model."
"""What keys of a UNet begin with in a whole checkpoint; files of a UNet alone leave it out."""


class WeightStorageError(ControlNeXtError, ValueError):
    """Weights that cannot be stored as asked for; the text says why and what helps."""


def check_storage(weights: Weights, device: str) -> None:
    """Check before anything is loaded that weights can be stored like this.

    Args:
        weights: how.
        device: name of the device.

    Raises:
        WeightStorageError: the device or an installed package is missing for it.
    """
    if weights == "fp8" and device.startswith("mps"):
        raise WeightStorageError("8-bit floats need CUDA or the CPU, not mps: leave --weights out.")
    if weights == "int8":
        _needs("torchao", "--weights int8")


def store_weights(unet: nn.Module, weights: Weights, dtype: torch.dtype) -> None:
    """Store the weights of a UNet in fewer bits; those that diffusers or torchao would not touch stay as they are.

    Args:
        unet: on any device, changed in place.
        weights: how.
        dtype: that the layers work in.
    """
    if weights == "fp8":
        unet.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=dtype)
    elif weights == "int8":
        quantization = importlib.import_module("torchao.quantization")
        quantization.quantize_(unet, quantization.Int8WeightOnlyConfig())


def load_gguf_unet(file: Path, preset: Preset, base: Path, dtype: torch.dtype) -> nn.Module:
    """Load the UNet of a GGUF file, whose linear layers stay as they are in it.

    Args:
        file: in diffusers' names, or in those of a checkpoint with or without their prefix.
        preset: of the model.
        base: folder of the base model in diffusers' layout, which says how large the UNet is, or a single checkpoint.
        dtype: that the layers work in.

    Returns:
        A UNet on the CPU.

    Raises:
        WeightStorageError: the package gguf is missing.
        Exception: whatever diffusers raises on a file that is damaged or something else.
    """
    _needs("gguf", f"The UNet {file.name}")
    import diffusers
    from diffusers.models.model_loading_utils import load_gguf_checkpoint

    tensors = load_gguf_checkpoint(str(file))
    if any(key.startswith("input_blocks.") for key in tensors):
        tensors = {PREFIX + key: value for key, value in tensors.items()}
    own = preset.base.config
    config = base if base.is_dir() else CONFIGS / preset.family if own is None else preset.resolve_path(own)
    kind = getattr(diffusers, json.loads((config / INDEX_FILE).read_text(encoding="utf-8"))["unet"][1])
    made: nn.Module = kind.from_single_file(
        tensors, config=str(config), subfolder="unet", local_files_only=True, dtype=dtype,
        quantization_config=diffusers.GGUFQuantizationConfig(compute_dtype=dtype),
    )  # fmt: skip
    return made


def precision_name(pipeline: DiffusionPipeline, weights: Weights, gguf: str) -> str:
    """Return what a recipe says about the precision of a pipeline: `bfloat16`, `bfloat16, fp8` or `bfloat16, name.gguf`."""
    names = [str(pipeline.unet.dtype).removeprefix("torch."), gguf, "" if weights == "full" else weights]
    return ", ".join(filter(None, names))


def _needs(package: str, what: str) -> None:
    try:
        importlib.import_module(package)
    except ImportError as error:
        raise WeightStorageError(
            f"{what} needs the package {package}: pip install 'controlnext-studio[quantise]'."
        ) from error
