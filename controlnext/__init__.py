"""ControlNeXt on stock diffusers: attach a light control module to an unmodified UNet.

Importing this package loads neither torch nor diffusers; each public name brings its own on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from controlnext.errors import ControlNeXtError
from controlnext.lazy import lazy_names
from controlnext.method.cross_norm import cross_norm
from controlnext.method.variants import VARIANTS

if TYPE_CHECKING:
    from controlnext.method.adapter import ControlNeXtAdapter
    from controlnext.method.model import ControlNeXtModel
    from controlnext.method.pipelines import (
        StableDiffusionControlNeXtImg2ImgPipeline,
        StableDiffusionControlNeXtInpaintPipeline,
        StableDiffusionControlNeXtPipeline,
        StableDiffusionXLControlNeXtImg2ImgPipeline,
        StableDiffusionXLControlNeXtInpaintPipeline,
        StableDiffusionXLControlNeXtPipeline,
    )
    from controlnext.method.transformer_pipelines import (
        FluxControlNeXtPipeline,
        StableDiffusion3ControlNeXtPipeline,
        WanControlNeXtPipeline,
    )
    from controlnext.method.video_pipeline import StableVideoDiffusionControlNeXtPipeline

__version__ = "0.2.0"

__all__ = [
    "VARIANTS",
    "ControlNeXtAdapter",
    "ControlNeXtError",
    "ControlNeXtModel",
    "FluxControlNeXtPipeline",
    "StableDiffusion3ControlNeXtPipeline",
    "StableDiffusionControlNeXtImg2ImgPipeline",
    "StableDiffusionControlNeXtInpaintPipeline",
    "StableDiffusionControlNeXtPipeline",
    "StableDiffusionXLControlNeXtImg2ImgPipeline",
    "StableDiffusionXLControlNeXtInpaintPipeline",
    "StableDiffusionXLControlNeXtPipeline",
    "StableVideoDiffusionControlNeXtPipeline",
    "WanControlNeXtPipeline",
    "cross_norm",
]

_HOMES = {"ControlNeXtAdapter": ".method.adapter", "ControlNeXtModel": ".method.model"} | dict.fromkeys(
    (name for name in __all__ if name.endswith("Pipeline")), ".method.pipelines"
)
_HOMES["StableVideoDiffusionControlNeXtPipeline"] = ".method.video_pipeline"
_HOMES |= dict.fromkeys(
    ("FluxControlNeXtPipeline", "StableDiffusion3ControlNeXtPipeline", "WanControlNeXtPipeline"),
    ".method.transformer_pipelines",
)

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
