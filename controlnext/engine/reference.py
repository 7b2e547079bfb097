"""A reference picture beside the control, by diffusers' own IP-Adapter loader."""

from __future__ import annotations

from typing import TYPE_CHECKING

from controlnext.errors import ControlNeXtError
from controlnext.quiet import quiet_loading

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

    from controlnext.models.references import ReferenceFile


class ReferenceLoadError(ControlNeXtError, ValueError):
    """An IP-Adapter file that cannot be loaded into this model."""


def take_reference(pipeline: DiffusionPipeline, file: ReferenceFile | None, scale: float) -> None:
    """Load an IP-Adapter into a pipeline, or take the one that is there out, bit for bit.

    Args:
        pipeline: with the adapters that it runs with.
        file: with its encoder; None is no reference.
        scale: weight of the reference.

    Raises:
        ReferenceLoadError: it does not fit the UNet, or is damaged.
    """
    there = getattr(pipeline, "_reference_file", None)
    if file != there:
        if there is not None:
            pipeline.unload_ip_adapter()
            pipeline._reference_file = None
        if file is not None:
            _load(pipeline, file)
    if file is not None:
        pipeline.set_ip_adapter_scale(scale)


def _load(pipeline: DiffusionPipeline, file: ReferenceFile) -> None:
    from transformers import CLIPVisionModelWithProjection

    unet = pipeline.unet
    try:
        with quiet_loading():
            encoder = CLIPVisionModelWithProjection.from_pretrained(str(file.encoder), dtype=unet.dtype)
            pipeline.register_modules(image_encoder=encoder.to(unet.device))
            pipeline.load_ip_adapter(
                str(file.path.parent),
                subfolder="",
                weight_name=file.path.name,
                image_encoder_folder=None,
                local_files_only=True,
            )
    except Exception as error:  # files that a person supplied may fail in any way
        pipeline.unload_ip_adapter()
        reason = " ".join(str(error).split())[:200]
        raise ReferenceLoadError(
            f"The IP-Adapter {file.path.name} cannot be loaded: {type(error).__name__}: {reason}. Check that it is complete and "
            "made for this base model."
        ) from error
    pipeline._reference_file = file
