"""Tiny autoencoders (diffusers' `AutoencoderTiny`): previews, and if wished results, in a fraction of the memory and time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from diffusers import AutoencoderTiny

from controlnext.errors import ControlNeXtError
from controlnext.models.hub import switched_off
from controlnext.models.run_options import TINY_AUTOENCODERS, RunOptions
from controlnext.quiet import quiet_loading

if TYPE_CHECKING:
    from controlnext.models.presets import Preset


class TinyAutoencoderError(ControlNeXtError, ValueError):
    """A tiny autoencoder that cannot be used; the text says why and what helps."""


def tiny_autoencoder(preset: Preset, options: RunOptions, dtype: torch.dtype) -> AutoencoderTiny | None:
    """Load the tiny autoencoder of a model.

    Args:
        preset: of the model.
        options: say whether one is wanted, and which.
        dtype: of the weights.

    Returns:
        The autoencoder on the CPU; None where none is wanted, for videos, and for families that have no usual one.

    Raises:
        TinyAutoencoderError: the folder or repository holds none.
    """
    place = options.tiny_autoencoder or TINY_AUTOENCODERS.get(preset.family, "")
    if options.tiny == "none" or preset.video or not place:
        return None
    here = Path(place).expanduser()
    try:
        with quiet_loading():
            made = AutoencoderTiny.from_pretrained(
                str(here) if here.is_dir() else place, dtype=dtype, local_files_only=here.is_dir() or switched_off()
            )
    except Exception as error:  # a hub, a network and files of others may fail in any way
        raise TinyAutoencoderError(
            f"There is no tiny autoencoder at {place}: name a folder or a hub repository with one of AutoencoderTiny, "
            "or leave --tiny out."
        ) from error
    if made.config.latent_channels != 4:
        raise TinyAutoencoderError(
            f"The tiny autoencoder {place} reads {made.config.latent_channels} channels, and the latents of {preset.title} have 4: "
            "name one for its family."
        )
    return made.eval()
