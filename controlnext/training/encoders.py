"""The frozen parts of a base model that turn pictures into latents and captions into states."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from controlnext.cache import fingerprint


class PictureEncoder:
    """Latents and text states by the parts of a stock SD or SDXL pipeline.

    Attributes:
        picture_name: names the autoencoder by its weights.
        text_name: names the text encoders by their weights.
    """

    def __init__(self, pipeline: Any, device: torch.device, autocast_dtype: torch.dtype | None = None) -> None:  # noqa: ANN401 - a stock pipeline
        """Freeze the parts.

        Args:
            pipeline: stock pipeline; its autoencoder becomes float32, since some overflow in float16.
            device: where the parts run.
            autocast_dtype: precision they run in; None takes float32.
        """
        self.pipeline, self.device, self._autocast = pipeline, device, autocast_dtype
        self._lock = threading.Lock()  # loader threads share the parts
        pipeline.vae.float().requires_grad_(False).eval()
        texts = [
            part for part in (pipeline.text_encoder, getattr(pipeline, "text_encoder_2", None)) if part is not None
        ]
        for part in texts:
            part.requires_grad_(False).eval()
        self._texts = texts
        self.picture_name = fingerprint(pipeline.vae.parameters())
        self.text_name = fingerprint(parameter for part in texts for parameter in part.parameters())

    @torch.no_grad()
    def latents(self, pictures: Sequence[np.ndarray]) -> Tensor:
        """Encode RGB pictures `(H, W, 3)` uint8 of one size to `(B, 4, h, w)` float16 latents in the UNet's units.

        The middle of what the autoencoder says is taken, nothing is drawn: the same picture has the same latents.
        """
        vae = self.pipeline.vae
        batch = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1
        with self._lock, self._precision():
            vae.to(self.device)
            batch = batch.to(self.device, memory_format=torch.channels_last)
            mean = vae.encode(batch).latent_dist.mean.float()
        shift = getattr(vae.config, "shift_factor", None) or 0.0
        return ((mean - shift) * vae.config.scaling_factor).half().cpu()

    @torch.no_grad()
    def states(self, captions: Sequence[str]) -> list[dict[str, Tensor]]:
        """Encode captions to what the UNet is given of them, without a batch: float16 on the CPU."""
        with self._lock:
            for part in self._texts:
                part.to(self.device)
            made = self.pipeline.encode_prompt(
                list(captions), device=self.device, num_images_per_prompt=1, do_classifier_free_guidance=False
            )
        rows = {"encoder_hidden_states": made[0]}
        if len(self._texts) > 1:
            rows["text_embeds"] = made[2]
        return [{name: tensor[index].half().cpu() for name, tensor in rows.items()} for index in range(len(captions))]

    def _precision(self) -> torch.autocast:
        dtype = self._autocast
        return torch.autocast(self.device.type, dtype or torch.bfloat16, enabled=dtype is not None)
