"""Weights of the UNet that belong to an adapter: read, checked, applied and taken back bit for bit.

An adapter may ship full values for some UNet parameters (kind "subset") or differences to add to them (kind "delta").
The released files do not say which they are and the numbers cannot tell, so the kind comes from the file's metadata or
from the caller, never from a guess.
"""

from __future__ import annotations

import logging
import math
import os
import pickle
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal, get_args

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from controlnext.errors import ControlNeXtError
from controlnext.injection import unwrap

logger = logging.getLogger(__name__)

Kind = Literal["delta", "subset"]
MAX_ALPHA = 1.5
PICKLES = (".bin", ".pt", ".pth")
NAMED = 3  # how many offending keys an error names


class WeightsError(ControlNeXtError, ValueError):
    """A weight file that cannot be read, or does not fit what it is meant for."""


def read_tensors(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a weight file without running any code in it.

    Args:
        path: A `.safetensors` file, or a `.bin`, `.pt` or `.pth` of which only tensors are accepted.

    Returns:
        The tensors by key, on the CPU in the file's dtypes, and the file's metadata (empty for pickles).

    Raises:
        WeightsError: There is no such file, it is damaged, of another kind, or holds more than tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"There is no weight file {path}.")
    if path.suffix not in (".safetensors", *PICKLES):
        raise WeightsError(
            f"{path.name} is no weight file: its name ends in none of .safetensors {' '.join(PICKLES)}."
        )
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                keys, metadata = file.keys(), file.metadata()
                return {key: file.get_tensor(key) for key in keys}, dict(metadata or {})
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, OSError, EOFError, RuntimeError, KeyError, ValueError) as error:
        raise WeightsError(
            f"{path.name} cannot be read as tensors, so it is damaged or something else: {error}"
        ) from error
    if not isinstance(tensors, Mapping) or not all(isinstance(tensor, Tensor) for tensor in tensors.values()):
        raise WeightsError(f"{path.name} holds more than named tensors: save the plain state dict.")
    return dict(tensors), {}


def write_tensors(path: str | os.PathLike[str], tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file, whole or not at all.

    Args:
        path: Where to; the folder exists.
        tensors: By key; any device.
        metadata: Kept in the header.
    """
    partial = Path(f"{path}.partial")
    save_file({key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}, partial, dict(metadata))
    partial.replace(path)


def check_tensors(
    tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor], *, what: str, complete: bool = True
) -> None:
    """Compare keys and shapes.

    Args:
        tensors: What a file holds.
        expected: What the receiving module has.
        what: Names the file in the error.
        complete: Whether every expected key has to be there.

    Raises:
        WeightsError: Something does not fit; the first few offenders are named.
    """
    unknown = [key for key in tensors if key not in expected]
    missing = [key for key in expected if key not in tensors] if complete else []
    wrong = [
        f"{key} {tuple(tensor.shape)} instead of {tuple(expected[key].shape)}"
        for key, tensor in tensors.items()
        if key in expected and tensor.shape != expected[key].shape
    ]
    faults = {"unknown keys": unknown, "missing keys": missing, "wrong shapes": wrong}
    found = [f"{len(keys)} {fault} ({_first(keys)})" for fault, keys in faults.items() if keys]
    if not tensors:
        found = ["no tensors"]
    if found:
        raise WeightsError(f"{what} does not fit: {'; '.join(found)}. It belongs to another model or variant.")


def _first(keys: Iterable[str], count: int = NAMED) -> str:
    """Name the first few of some keys."""
    keys = list(keys)
    return ", ".join(keys[:count]) + (", ..." if len(keys) > count else "")


def as_kind(kind: str | None, *, what: str) -> Kind:
    """Check the kind of UNet weights.

    Args:
        kind: From the file's metadata or the caller.
        what: Names the weights in the error.

    Returns:
        "delta" or "subset".

    Raises:
        WeightsError: It is neither, or unknown.
    """
    if kind not in get_args(Kind):
        raise WeightsError(
            f'{what} does not say whether it holds differences or full values: pass kind="delta" or kind="subset"'
            + (f", not {kind!r}." if kind else ".")
        )
    return kind


def as_alpha(alpha: float) -> float:
    """Check alpha, the share of the UNet weights: a number in [0, 1.5], or raise `WeightsError`."""
    if not isinstance(alpha, int | float) or not math.isfinite(alpha) or not 0 <= alpha <= MAX_ALPHA:
        raise WeightsError(f"alpha is a number from 0 to {MAX_ALPHA}, not {alpha!r}.")
    return float(alpha)


def unet_parameters(unet: nn.Module) -> dict[str, nn.Parameter]:
    """Return the UNet's own parameters by their stock names, whether or not PEFT has wrapped layers for a LoRA."""
    return {
        name.replace(".base_layer.", "."): parameter
        for name, parameter in unwrap(unet).named_parameters()
        if ".lora_" not in name
    }


class UNetPatch:
    """UNet weights of an adapter in place; `restore` takes them back bit for bit.

    LoRAs may come and go in between: layers are found by their stock names each time. What somebody else wrote to a
    touched parameter meanwhile (a fused LoRA) is kept, and only then is the result exact to rounding, not to the bit.
    """

    def __init__(self, unet: nn.Module, tensors: Mapping[str, Tensor], kind: Kind, alpha: float = 1.0) -> None:
        """Apply weights to a UNet.

        Args:
            unet: The UNet, changed in place.
            tensors: Values or differences by stock diffusers key; any device and float dtype.
            kind: Which of both they are.
            alpha: Share of the change to apply, in [0, 1.5]; a subset is approached from the base in proportion.

        Raises:
            WeightsError: Keys, shapes, kind or alpha do not fit, or the UNet's weights are not in memory.
        """
        parameters = unet_parameters(unet)
        check_tensors(tensors, parameters, what="The file of UNet weights", complete=False)
        self.unet, self.tensors, self.kind = unet, tensors, as_kind(kind, what="This set of UNet weights")
        alpha = as_alpha(alpha)
        self._touched(parameters)
        # Originals live in main memory, so that an adapter costs no accelerator memory.
        self._originals = {key: parameters[key].detach().to("cpu", copy=True) for key in tensors}
        self.alpha = 0.0
        self.set_alpha(alpha)

    def set_alpha(self, alpha: float) -> None:
        """Move to another share of the change, counted from the original values; 0 restores them.

        Args:
            alpha: In [0, 1.5].

        Raises:
            WeightsError: alpha is out of range, or the UNet's weights are not in memory.
        """
        alpha = as_alpha(alpha)
        if alpha == self.alpha or not self._originals:
            return
        foreign = 0
        with torch.no_grad():
            for key, parameter in self._touched(unet_parameters(self.unet)).items():
                before, after = (self._target(key, share, parameter) for share in (self.alpha, alpha))
                if torch.equal(parameter, before):
                    parameter.copy_(after)
                else:
                    foreign += 1
                    parameter.add_(after.float() - before.float())
        self.alpha = alpha
        if foreign:
            logger.warning("%d UNet weights were changed by others (a fused LoRA?); their change is kept.", foreign)

    def restore(self) -> None:
        """Put the original values back and let go of them; a second call does nothing."""
        self.set_alpha(0.0)
        self._originals = {}

    def _touched(self, parameters: Mapping[str, nn.Parameter]) -> dict[str, nn.Parameter]:
        """Return the parameters that the weights change, or raise if they cannot be written."""
        touched = {key: parameters[key] for key in self.tensors}
        if any(parameter.is_meta or not parameter.is_floating_point() for parameter in touched.values()):
            raise WeightsError(
                "The UNet's weights are offloaded or quantised and cannot be changed: load the adapter before "
                "enable_sequential_cpu_offload() or quantisation."
            )
        return touched

    def _target(self, key: str, alpha: float, parameter: Tensor) -> Tensor:
        """Return the value of a parameter at a share, rounded to the original dtype first and then to today's."""
        original = self._originals[key].to(parameter.device)
        tensor = self.tensors[key].to(parameter.device)
        work = torch.promote_types(original.dtype, torch.float32)
        if alpha == 0:
            value = original
        elif self.kind == "delta":
            value = original.to(work) + alpha * tensor.to(work)
        elif alpha == 1:
            value = tensor
        else:
            value = torch.lerp(original.to(work), tensor.to(work), alpha)
        return value.to(original.dtype).to(parameter.dtype)
