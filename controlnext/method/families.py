"""Base-model families: one row each, with everything that distinguishes a family.

Neither torch nor diffusers is loaded here: pipelines are given by name, and imported from `controlnext` where one is built.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType


@dataclass(frozen=True)
class Family:
    """What distinguishes one family of base models.

    Attributes:
        title: what a sentence calls it.
        pipeline: class of `controlnext` that makes pictures from words, or videos; empty where there is none.
        from_picture: class that starts from a picture.
        under_mask: class that repaints a masked part of a picture.
        text_width: width of the text or image features that the UNet attends to, `cross_attention_dim`; None where it
            does not tell the family.
        video: whether it makes videos, and no single pictures.
        safety_checker: whether its stock pipeline comes with a safety checker, which this project does not load.
        trainer_names: how `ss_base_model_version` and `modelspec.architecture` in LoRA files begin for it.
        video_defaults: fields of a video's recipe that a preset of this family does not say.
        experimental: whether its pipelines are for use from Python alone, as no adapters are published for it.
    """

    title: str
    pipeline: str = ""
    from_picture: str = ""
    under_mask: str = ""
    text_width: int | None = None
    video: bool = False
    safety_checker: bool = False
    trainer_names: tuple[str, ...] = ()
    video_defaults: Mapping[str, object] = field(default_factory=dict)
    experimental: bool = False

    @property
    def pipelines(self) -> tuple[str, ...]:
        """Every pipeline class of the family, by name."""
        return tuple(filter(None, (self.pipeline, self.from_picture, self.under_mask)))


_STARTER = Family(
    "the starter",
    pipeline="StableDiffusionControlNeXtPipeline",
    from_picture="StableDiffusionControlNeXtImg2ImgPipeline",
    under_mask="StableDiffusionControlNeXtInpaintPipeline",
    safety_checker=True,
)
_SVD = "StableVideoDiffusionControlNeXtPipeline"

FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        "starter": _STARTER,
        "sd15": replace(
            _STARTER, title="Stable Diffusion 1.5", text_width=768, trainer_names=("sd_v1", "stable-diffusion-v1")
        ),
        "sd21": Family("Stable Diffusion 2.1", text_width=1024, trainer_names=("sd_v2", "stable-diffusion-v2")),
        "sdxl": Family(
            "Stable Diffusion XL",
            pipeline="StableDiffusionXLControlNeXtPipeline",
            from_picture="StableDiffusionXLControlNeXtImg2ImgPipeline",
            under_mask="StableDiffusionXLControlNeXtInpaintPipeline",
            text_width=2048,
            trainer_names=("sdxl", "stable-diffusion-xl"),
        ),
        "svd": Family(
            "Stable Video Diffusion",
            pipeline=_SVD,
            text_width=1024,
            video=True,
            # as the authors' runners have them: whole-body skeletons, windows of 14 frames that share 4
            video_defaults=MappingProxyType({"window": 14, "overlap": 4, "hands": True, "face": True}),
        ),
        "starter-video": Family(
            "the video starter",
            pipeline=_SVD,
            text_width=128,
            video=True,
            video_defaults=MappingProxyType({"window": 8, "overlap": 2, "shared_noise": 1.0}),
        ),
        "flux": Family("FLUX.1", pipeline="FluxControlNeXtPipeline", experimental=True),
        "sd3": Family("Stable Diffusion 3", pipeline="StableDiffusion3ControlNeXtPipeline", experimental=True),
        "wan": Family("Wan", pipeline="WanControlNeXtPipeline", video=True, experimental=True),
        "transformer": Family("a transformer model such as SD3 or FLUX"),
    }
)
"""Family -> its row; `sd21` and `transformer` are known only to be refused in a sentence."""

TEXT_FAMILIES: Mapping[int, str] = MappingProxyType(
    {row.text_width: name for name, row in FAMILIES.items() if row.text_width and not row.video}
)
"""Width of the text features that a UNet for pictures attends to -> family."""

VIDEO_FAMILIES: Mapping[int, str] = MappingProxyType(
    {row.text_width: name for name, row in FAMILIES.items() if row.text_width and row.video}
)
"""Width of the image features that a UNet for videos attends to -> family."""


def title_of(family: str) -> str:
    """Return what a sentence calls a family."""
    return FAMILIES[family].title if family in FAMILIES else f"the family {family!r}"


def families_of(pipeline: type) -> frozenset[str]:
    """Return the families that a pipeline class, or one derived from it, is made for; empty for a foreign one."""
    names = {kind.__name__ for kind in pipeline.__mro__}
    return frozenset(name for name, row in FAMILIES.items() if names.intersection(row.pipelines))
