"""Convolutions in 8-bit integers on the CPU: parts that take half of the time, for pictures that are looked at and not kept."""

from __future__ import annotations

import copy
import time
import warnings
from functools import cache

import torch
from torch import Tensor, nn

LEVELS = 255
WEIGHT_LEVELS, NARROW_LEVELS = 127, 63
"""Largest weights; the narrow ones keep the sum of two products within 16 bits, see `weight_levels`."""

FEWEST_CHANNELS = 8
"""A convolution with fewer channels on one side stays as it is: there is little to gain, and it faces latents or pixels."""

_TRIALS = 2


class EightBitConv(nn.Module):
    """A convolution whose weights and inputs are 8-bit integers; sums and result are exact integers, then float32.

    Weights have a scale for each output channel, inputs a scale and a zero point for each call, taken from their smallest and
    largest value. oneDNN does the work, as in torch's own quantised models.
    """

    def __init__(self, layer: nn.Conv2d, levels: int | None = None) -> None:
        """Take the weights of a layer; it stays as it is.

        Args:
            layer: floating point, zero padding, on the CPU.
            levels: the largest weight as an integer; None takes what this processor can sum.
        """
        super().__init__()
        levels = levels or weight_levels()
        weight = layer.weight.detach().float()
        self._scales = weight.abs().amax((1, 2, 3)).clamp_min(torch.finfo(torch.float32).tiny) / levels
        self._zeros = torch.zeros(len(weight), dtype=torch.long)
        self._weight = (weight / self._scales[:, None, None, None]).round().to(torch.int8)
        self._bias = None if layer.bias is None else layer.bias.detach().float()
        self._where = list(layer.stride), list(layer.padding), list(layer.dilation), layer.groups
        self._packed: Tensor | None = None

    def forward(self, sample: Tensor) -> Tensor:
        """Convolve.

        Args:
            sample: (B, C, H, W) of any floating dtype.

        Returns:
            (B, C, H, W) float32, in channels-last order.
        """
        sample = sample.float().contiguous(memory_format=torch.channels_last)
        low, high = (float(end) for end in torch.aminmax(sample.permute(0, 2, 3, 1)))
        low, high = min(low, 0.0), max(high, 0.0)
        scale = (high - low) / LEVELS or 1.0
        zero = round(-low / scale)
        whole = torch.quantize_per_tensor(sample, scale, zero, torch.quint8)
        # its integers without a copy, which `int_repr` would make
        levels = torch.empty(0, dtype=torch.uint8).set_(whole.untyped_storage(), 0, whole.shape, whole.stride())  # type: ignore[call-overload]
        if self._packed is None:
            self._packed = torch.ops.onednn.qconv_prepack(
                self._weight, self._scales, scale, zero, *self._where, list(sample.shape)
            )
        made: Tensor = torch.ops.onednn.qconv2d_pointwise(
            levels, scale, zero, self._packed, self._scales, self._zeros, self._bias, *self._where,
            1.0, 0, torch.float32, "none", [], "",
        )  # fmt: skip
        return made


@cache
def weight_levels() -> int:
    """Return how large 8-bit weights may be here.

    A processor without VNNI adds two products of 8 bits in 16, which overflow unless the weights take seven bits.
    """
    layer = nn.Conv2d(32, 32, 3, bias=False)
    with torch.no_grad():
        layer.weight.fill_(1.0)
        largest = EightBitConv(layer, WEIGHT_LEVELS)(torch.ones(1, 32, 8, 8))
    return WEIGHT_LEVELS if largest.min() > 0.99 * layer.weight[0].numel() else NARROW_LEVELS


def in_eight_bits(module: nn.Module, *, overwrite: bool = False) -> nn.Module:
    """Return a copy of a module in float32 whose convolutions work in 8 bits.

    Args:
        module: layers that nothing but the module itself calls, such as a decoder.
        overwrite: whether SiLUs write over their input, which is right where each has an input of its own.
    """
    changed = copy.deepcopy(module).float().to(memory_format=torch.channels_last)
    for part in list(changed.modules()):
        if isinstance(part, nn.SiLU) and overwrite:
            part.inplace = True
        for name, child in part.named_children():
            if isinstance(child, nn.Conv2d) and min(child.in_channels, child.out_channels) >= FEWEST_CHANNELS:
                setattr(part, name, EightBitConv(child))
    return changed


def faster(module: nn.Module, *inputs: Tensor, overwrite: bool = False) -> nn.Module:
    """Measure a module against its copy in 8 bits, and return the faster one.

    Args:
        module: such as a decoder, on the CPU.
        *inputs: as it takes them, to be measured with.
        overwrite: see `in_eight_bits`.

    Returns:
        The module itself where the copy is not faster, or where this build of torch cannot run it.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch says once that a later release may lack these tensors: see below
            other = in_eight_bits(module, overwrite=overwrite)
            seconds = [_seconds(part, inputs) for part in (module, other)]
    except (RuntimeError, AttributeError, NotImplementedError):  # no oneDNN, or another processor
        return module
    return other if seconds[1] < seconds[0] else module


@torch.inference_mode()
def _seconds(module: nn.Module, inputs: tuple[Tensor, ...]) -> float:
    """CPU seconds of this thread for one call, the least of a few."""
    module(*inputs)
    times = []
    for _ in range(_TRIALS):
        begun = time.process_time()
        module(*inputs)
        times.append(time.process_time() - begun)
    return min(times)
