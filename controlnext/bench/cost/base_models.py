"""Base models that are measured, each with the size it is measured at.

The configurations are those in `assets/`. Parameter counts are those of the released weights; a test builds each network and
counts. Nothing is downloaded, and importing this module imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from controlnext.assets import CONFIGS, STARTER
from controlnext.bench.command import BenchError

if TYPE_CHECKING:
    from torch import nn

LATENT_CELL = 8
"""Pixels to a latent cell, in all of these models."""
SIZE_STEP = 64
"""Pixels: sizes whose latents can be halved three times, as in these UNets."""


@dataclass(frozen=True)
class BenchModel:
    """One base model with one way of control, at the size it is measured at.

    Attributes:
        name: what `--family` takes.
        title: for people.
        variant: key of `controlnext.method.variants.VARIANTS`.
        unet_class: diffusers class of the UNet.
        height: pixels.
        width: pixels.
        unet_folder: folder with the UNet's `config.json`.
        unet: or what of its configuration differs from the class's defaults.
        parameters: of the UNet, counted; 0 = not fixed.
        bars: at most so many times the FLOPs of the base alone, with guidance: a condition's first timestep, another
            timestep, the same one again; empty = none set.
        frames: of a video; 0 = pictures.
        text_tokens: length of what the UNet attends to.
        pooled_width: width of the pooled text embedding (SDXL); 0 = none.
        t2i_adapter: configuration of diffusers' `T2IAdapter`; None = there is none for this model.
        controlnet: whether diffusers' `ControlNetModel` exists for it.
        source: where the configuration comes from.
    """

    name: str
    title: str
    variant: str
    unet_class: str
    height: int
    width: int
    unet_folder: Path | None = None
    unet: Mapping[str, Any] | None = None
    parameters: int = 0
    bars: tuple[float, ...] = ()
    frames: int = 0
    text_tokens: int = 77
    pooled_width: int = 0
    t2i_adapter: Mapping[str, Any] | None = None
    controlnet: bool = True
    source: str = ""

    def size(self, short: int | None = None) -> tuple[int, int]:
        """Return height and width in pixels: its own, or in about its own shape with another short side.

        Raises:
            BenchError: the short side is no multiple of `SIZE_STEP`.
        """
        if short is None:
            return self.height, self.width
        if short < SIZE_STEP or short % SIZE_STEP:
            raise BenchError(f"A size is a multiple of {SIZE_STEP} pixels, not {short}.")
        return short, short * self.width // self.height // SIZE_STEP * SIZE_STEP

    def described(self, short: int | None = None) -> str:
        """Describe its size in words."""
        height, width = self.size(short)
        return f"{self.frames} frames of {width}x{height}" if self.frames else f"{width}x{height}"


_T2I = {"in_channels": 3, "channels": (320, 640, 1280, 1280), "num_res_blocks": 2}

_SD15 = BenchModel(
    name="sd15",
    title="SD1.5, released module",
    variant="sd15",
    unet_class="UNet2DConditionModel",
    unet_folder=CONFIGS / "sd15" / "unet",
    height=512,
    width=512,
    parameters=859_520_964,
    bars=(1.185, 1.185, 1.005),
    t2i_adapter=MappingProxyType({**_T2I, "downscale_factor": 8, "adapter_type": "full_adapter"}),
    source="stable-diffusion-v1-5, unet/config.json; TencentARC/t2iadapter_*_sd15v2",
)
_SVD = BenchModel(
    name="svd",
    title="SVD, module of v2",
    variant="svd-v2",
    unet_class="UNetSpatioTemporalConditionModel",
    unet=MappingProxyType({"sample_size": 96, "num_frames": 25}),
    height=576,
    width=1024,
    parameters=1_524_623_082,
    bars=(1.036, 1.025, 1.003),
    frames=14,
    text_tokens=1,
    controlnet=False,
    source="stabilityai/stable-video-diffusion-img2vid-xt-1-1, unet/config.json",
)
_ROWS = (
    _SD15,
    replace(
        _SD15,
        name="sd15-train",
        title="SD1.5, module of the training code",
        variant="sd15-train",
        bars=(1.065, 1.044, 1.005),
    ),
    BenchModel(
        name="sdxl",
        title="SDXL",
        variant="sdxl",
        unet_class="UNet2DConditionModel",
        unet_folder=CONFIGS / "sdxl" / "unet",
        height=1024,
        width=1024,
        parameters=2_567_463_684,
        bars=(1.031, 1.021, 1.003),
        pooled_width=1280,
        t2i_adapter=MappingProxyType({**_T2I, "downscale_factor": 16, "adapter_type": "full_adapter_xl"}),
        source="stabilityai/stable-diffusion-xl-base-1.0, unet/config.json; TencentARC/t2i-adapter-*-sdxl-1.0",
    ),
    _SVD,
    replace(_SVD, name="svd-v1", title="SVD, module of v1", variant="svd-v1"),
    BenchModel(
        name="starter",
        title="Starter",
        variant="starter",
        unet_class="UNet2DConditionModel",
        unet_folder=STARTER / "base" / "unet",
        height=256,
        width=256,
        source="assets/starter/base/unet/config.json",
    ),
)

BENCH_MODELS: Mapping[str, BenchModel] = MappingProxyType({row.name: row for row in _ROWS})
"""Name -> base model with its way of control."""


def get_model(name: str) -> BenchModel:
    """Return a row by name.

    Raises:
        BenchError: there is none of that name.
    """
    if name not in BENCH_MODELS:
        raise BenchError(f"There is no base model {name!r} to measure; choose one of {', '.join(BENCH_MODELS)}.")
    return BENCH_MODELS[name]


def count_parameters(parameters: Iterable[nn.Parameter]) -> int:
    """Sum the elements of parameters."""
    return sum(parameter.numel() for parameter in parameters)


def on_meta(build: Callable[[], nn.Module]) -> nn.Module:
    """Build a network on the meta device, where weights take no memory."""
    import torch

    with torch.device("meta"):
        return build()
