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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, cast, get_args
from weakref import WeakKeyDictionary

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from controlnext.errors import ControlNeXtError
from controlnext.method.injection import unwrap

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
    """Write a safetensors file, whole or not at all, with the permissions of any new file.

    Args:
        path: Where to; the folder exists.
        tensors: By key; any device.
        metadata: Kept in the header.
    """
    partial = Path(f"{path}.partial")
    partial.unlink(missing_ok=True)  # of a process that died
    partial.touch()
    # safetensors would leave the mode of a temporary file, which its owner alone may read.
    mode = partial.stat().st_mode
    save_file({key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}, partial, dict(metadata))
    partial.chmod(mode)
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
    if kind is None or kind not in get_args(Kind):
        raise WeightsError(
            f'{what} does not say whether it holds differences or full values: pass kind="delta" or kind="subset"'
            + (f", not {kind!r}." if kind else ".")
        )
    return cast("Kind", kind)


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


@dataclass(eq=False)
class _Share:
    """The weights of one adapter, and how much of them is in place."""

    tensors: Mapping[str, Tensor]
    kind: Kind
    alpha: float = 0.0


@dataclass
class _Ledger:
    """What a UNet's weights were before any adapter, and the shares on top of them in the order they came.

    It holds no reference to the UNet, so that both go when nobody holds the UNet any more.
    """

    originals: dict[str, Tensor] = field(default_factory=dict)
    shares: list[_Share] = field(default_factory=list)

    def value(self, key: str, parameter: Tensor, share: _Share, alpha: float) -> Tensor:
        """Return the value of a parameter with one share moved to `alpha`, in the parameter's dtype.

        The sum is made in float32 or wider and rounded once, to the original dtype and then to today's: the value
        depends on the shares in place alone, not on what came and went.
        """
        original = self.originals[key].to(parameter.device)
        work = torch.promote_types(original.dtype, torch.float32)
        value = original
        for other in self.shares:
            part = alpha if other is share else other.alpha
            if part == 0 or key not in other.tensors:
                continue
            tensor = other.tensors[key].to(parameter.device)
            if other.kind == "delta":
                value = value.to(work) + part * tensor.to(work)
            elif value is not original:
                value = value.to(work) + part * (tensor.to(work) - original.to(work))
            else:
                value = tensor if part == 1 else torch.lerp(original.to(work), tensor.to(work), part)
        return value.to(original.dtype).to(parameter.dtype)


_LEDGERS: WeakKeyDictionary[nn.Module, _Ledger] = WeakKeyDictionary()


class UNetPatch:
    """UNet weights of an adapter in place; `restore` takes them back bit for bit.

    Several may be in place at once: their changes add, each with its alpha, and they may go in any order.

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
        self._share = _Share(tensors, self.kind)
        self._ledger = _LEDGERS.setdefault(unwrap(unet), _Ledger())
        # Originals live in main memory, so that an adapter costs no accelerator memory.
        self._ledger.originals |= {
            key: parameters[key].detach().to("cpu", copy=True) for key in tensors if key not in self._ledger.originals
        }
        self._ledger.shares.append(self._share)
        self.set_alpha(alpha)

    @property
    def alpha(self) -> float:
        """Share of the change in place."""
        return self._share.alpha

    def set_alpha(self, alpha: float) -> None:
        """Move to another share of the change, counted from the original values; 0 restores them.

        Args:
            alpha: In [0, 1.5].

        Raises:
            WeightsError: alpha is out of range, or the UNet's weights are not in memory.
        """
        alpha = as_alpha(alpha)
        share, ledger = self._share, self._ledger
        if alpha == share.alpha or share not in ledger.shares:
            return
        foreign = 0
        with torch.no_grad():
            for key, parameter in self._touched(unet_parameters(self.unet)).items():
                before, after = (ledger.value(key, parameter, share, part) for part in (share.alpha, alpha))
                if torch.equal(parameter, before):
                    parameter.copy_(after)
                else:
                    foreign += 1
                    parameter.add_(after.float() - before.float())
        share.alpha = alpha
        if foreign:
            logger.warning("%d UNet weights were changed by others (a fused LoRA?); their change is kept.", foreign)

    def restore(self) -> None:
        """Undo the change and release original values that nobody needs; a second call does nothing."""
        self.set_alpha(0.0)
        ledger = self._ledger
        if self._share in ledger.shares:
            ledger.shares.remove(self._share)
            needed = {key for share in ledger.shares for key in share.tensors}
            ledger.originals = {key: value for key, value in ledger.originals.items() if key in needed}

    def _touched(self, parameters: Mapping[str, nn.Parameter]) -> dict[str, nn.Parameter]:
        """Return the parameters that the weights change, or raise if they cannot be written."""
        touched = {key: parameters[key] for key in self.tensors}
        if any(parameter.is_meta or not parameter.is_floating_point() for parameter in touched.values()):
            raise WeightsError(
                "The UNet's weights are offloaded or quantised and cannot be changed: load the adapter before "
                "enable_sequential_cpu_offload() or quantisation."
            )
        return touched
