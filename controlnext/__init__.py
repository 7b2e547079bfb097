"""ControlNeXt on stock diffusers: attach a light control module to an unmodified UNet.

Importing this package loads neither torch nor diffusers; each public name brings its own on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

# Eager, and free of torch: a later import of the submodule would otherwise hide the function behind its own name.
from controlnext.cross_norm import cross_norm
from controlnext.errors import ControlNeXtError
from controlnext.variants import VARIANTS

if TYPE_CHECKING:
    from controlnext.adapter import ControlNeXtAdapter
    from controlnext.model import ControlNeXtModel
    from controlnext.pipelines import (
        StableDiffusionControlNeXtImg2ImgPipeline,
        StableDiffusionControlNeXtInpaintPipeline,
        StableDiffusionControlNeXtPipeline,
        StableDiffusionXLControlNeXtImg2ImgPipeline,
        StableDiffusionXLControlNeXtInpaintPipeline,
        StableDiffusionXLControlNeXtPipeline,
    )
    from controlnext.video_pipeline import StableVideoDiffusionControlNeXtPipeline

__all__ = [
    "VARIANTS",
    "ControlNeXtAdapter",
    "ControlNeXtError",
    "ControlNeXtModel",
    "StableDiffusionControlNeXtImg2ImgPipeline",
    "StableDiffusionControlNeXtInpaintPipeline",
    "StableDiffusionControlNeXtPipeline",
    "StableDiffusionXLControlNeXtImg2ImgPipeline",
    "StableDiffusionXLControlNeXtInpaintPipeline",
    "StableDiffusionXLControlNeXtPipeline",
    "StableVideoDiffusionControlNeXtPipeline",
    "cross_norm",
]

_HOMES = {"ControlNeXtAdapter": "adapter", "ControlNeXtModel": "model"} | dict.fromkeys(
    (name for name in __all__ if name.endswith("Pipeline")), "pipelines"
)
_HOMES["StableVideoDiffusionControlNeXtPipeline"] = "video_pipeline"


def __getattr__(name: str) -> object:
    """Import a public name from its home on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    return value


def __dir__() -> list[str]:
    """List the public names beside what is loaded."""
    return sorted({*globals(), *__all__})
