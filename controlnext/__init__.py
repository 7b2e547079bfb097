"""ControlNeXt on stock diffusers: attach a light control module to an unmodified UNet.

Importing this package loads neither torch nor diffusers; each public name brings its own on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

# Eager, and free of torch: a later import of the submodule would otherwise hide the function behind its own name.
from controlnext.cross_norm import cross_norm
from controlnext.errors import ControlNeXtError
from controlnext.lazy import lazy_names
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

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
