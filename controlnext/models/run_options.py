"""How models are kept in memory and run, apart from what their presets say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Weights = Literal["full", "fp8", "int8"]
TinyUse = Literal["none", "previews", "results"]

WEIGHTS: tuple[str, ...] = get_args(Weights)
TINY_USES: tuple[str, ...] = get_args(TinyUse)

TINY_AUTOENCODERS = {"sd15": "madebyollin/taesd", "sdxl": "madebyollin/taesdxl"}
"""Family -> the hub repository of its usual tiny autoencoder."""

INDUCTOR = "inductor"
"""The usual backend of `torch.compile`."""


@dataclass(frozen=True)
class RunOptions:
    """Choices about memory and speed; a picture made with other ones than the default differs a little.

    Attributes:
        weights: `full` as loaded; `fp8` keeps the UNet's weights in 8-bit floats, brought to full precision layer by layer;
            `int8` keeps those of its linear layers in 8-bit integers, by torchao.
        tiny: what a tiny autoencoder draws: `none`, the `previews`, or the `results` too.
        tiny_autoencoder: folder or hub repository of the tiny autoencoder; empty takes the family's usual one.
        compiler: backend of `torch.compile` for the UNet; empty runs it as it is.
    """

    weights: Weights = "full"
    tiny: TinyUse = "none"
    tiny_autoencoder: str = ""
    compiler: str = ""
