"""Weights of layers that are stored in fewer bits: in 8-bit floats, in 8-bit integers by torchao, or as in a GGUF file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from controlnext.method.injection import unwrap

_CAST_HOOK = "layerwise_casting"
"""Name of what diffusers' `enable_layerwise_casting` leaves on a layer."""


def plain_weight(layer: nn.Module) -> Tensor:
    """Return the weight of a layer in its own shape and the dtype that it works in.

    Args:
        layer: linear or convolution, its weight stored in any way.
    """
    weight = cast("Tensor", layer.weight)
    if hasattr(weight, "quant_type"):  # of a GGUF file
        from diffusers.quantizers.gguf.utils import dequantize_gguf_tensor

        made: Tensor = dequantize_gguf_tensor(weight).to(cast("torch.dtype", layer.compute_dtype))
        return made
    if hasattr(weight, "qdata"):  # of torchao
        return weight.dequantize()
    return weight if weight.element_size() > 1 else weight.to(_working_dtype(layer))


def is_stored(layer: nn.Module) -> bool:
    """Whether the weight of a layer is stored in another form than it works in."""
    weight = getattr(layer, "weight", None)
    return isinstance(weight, Tensor) and (hasattr(weight, "qdata") or weight.element_size() == 1)


def restore_layers(unet: nn.Module, keys: Iterable[str], *, floats: bool = True) -> int:
    """Bring layers back to the dtype that they work in, so that small differences can be added to their weights.

    Args:
        unet: changed in place; its layers may be wrapped by PEFT.
        keys: parameters by their stock names; those of layers that are not stored are passed over.
        floats: whether layers in 8-bit floats are brought back too: full values can be written into those.

    Returns:
        How many layers were brought back.
    """
    layers = {name.replace(".base_layer", ""): (name, layer) for name, layer in unwrap(unet).named_modules()}
    count = 0
    for stock in {key.rpartition(".")[0] for key in keys} & layers.keys():
        name, layer = layers[stock]
        if not is_stored(layer) or not (floats or _hook_of(layer) is None):
            continue
        parent, _, child = name.rpartition(".")
        setattr(unwrap(unet).get_submodule(parent), child, _restored(layer))
        count += 1
    return count


@contextmanager
def in_working_dtype(unet: nn.Module) -> Iterator[None]:
    """Hold layers in 8-bit floats in the dtype that they work in, which what is added to them meanwhile takes over (LoRAs)."""
    found = [(layer, hook) for layer in unwrap(unet).modules() if is_stored(layer) and (hook := _hook_of(layer))]
    for layer, hook in found:
        layer.to(hook.compute_dtype)
    try:
        yield
    finally:
        for layer, hook in found:
            layer.to(hook.storage_dtype)


def _restored(layer: nn.Module) -> nn.Module:
    """Return the layer itself, or a plain one in the place of one of a GGUF file."""
    weight = nn.Parameter(plain_weight(layer).detach(), requires_grad=False)
    if hasattr(layer.weight, "quant_type"):
        plain = nn.Linear(layer.in_features, layer.out_features, bias=False, device="meta")  # type: ignore[arg-type]
        plain.weight = weight
        plain.bias = layer.bias  # type: ignore[assignment]
        return plain
    if (hook := _hook_of(layer)) is not None:
        hook.storage_dtype = weight.dtype  # diffusers takes no such hook away; so it has nothing to do
        return layer.to(weight.dtype)
    layer.weight = weight
    return layer


class _CastHook(Protocol):
    """What diffusers leaves on a layer whose weights it casts."""

    storage_dtype: torch.dtype
    compute_dtype: torch.dtype


def _hook_of(layer: nn.Module) -> _CastHook | None:
    registry = getattr(layer, "_diffusers_hook", None)
    return None if registry is None else cast("_CastHook | None", registry.get_hook(_CAST_HOOK))


def _working_dtype(layer: nn.Module) -> torch.dtype:
    return getattr(_hook_of(layer), "compute_dtype", torch.float32)
