"""Encoders of a base model: pictures to latents, captions or reference pictures to states."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from controlnext.method.control_cache import fingerprint

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline


NOISE_ON_REFERENCE = 0.02
"""How much noise Stable Video Diffusion gets on its reference picture, in pixel values of [-1, 1]."""
_FRAMES_AT_ONCE = 4


class _Encoder:
    """Latents by a pipeline's autoencoder.

    Attributes:
        picture_name: fingerprint of the autoencoder's weights.
    """

    def __init__(
        self, pipeline: DiffusionPipeline, device: torch.device, autocast_dtype: torch.dtype | None = None
    ) -> None:
        """Freeze the parts.

        Args:
            pipeline: stock pipeline; its autoencoder becomes float32, since some overflow in float16.
            device: where the parts run.
            autocast_dtype: precision they run in; None takes float32.
        """
        self.pipeline, self.device, self._autocast = pipeline, device, autocast_dtype
        self._lock = threading.Lock()  # loader threads share the parts
        pipeline.vae.float().requires_grad_(False).eval()
        self.picture_name = fingerprint(pipeline.vae.parameters())

    @torch.no_grad()
    def latents(self, pictures: Sequence[np.ndarray]) -> Tensor:
        """Encode RGB pictures `(H, W, 3)` uint8 of one size to `(B, C, h, w)` float16 latents in the model's units.

        The mean of the autoencoder's distribution is taken, so the same picture has the same latents.
        """
        config = self.pipeline.vae.config
        shift = getattr(config, "shift_factor", None) or 0.0
        return ((self._mean(as_pixels(pictures)) - shift) * config.scaling_factor).half().cpu()

    def rest(self) -> None:
        """Move the parts to main memory until they are needed again."""
        rest(self.pipeline)

    def _mean(self, pixels: Tensor) -> Tensor:
        vae = self.pipeline.vae
        with self._lock, self._precision():
            vae.to(self.device)
            return vae.encode(pixels.to(self.device)).latent_dist.mean.float()

    def _precision(self) -> torch.autocast:
        dtype = self._autocast
        return torch.autocast(self.device.type, dtype or torch.bfloat16, enabled=dtype is not None)


class PictureEncoder(_Encoder):
    """Latents and text states by the parts of a stock SD, SDXL or SD3 pipeline.

    Attributes:
        text_name: fingerprint of the text encoders' weights.
    """

    def __init__(
        self, pipeline: DiffusionPipeline, device: torch.device, autocast_dtype: torch.dtype | None = None
    ) -> None:
        """Freeze the parts; see `_Encoder`."""
        super().__init__(pipeline, device, autocast_dtype)
        self._flow = hasattr(pipeline, "transformer")
        parts = (getattr(pipeline, name, None) for name in ("text_encoder", "text_encoder_2", "text_encoder_3"))
        self._texts = [part.requires_grad_(False).eval() for part in parts if part is not None]
        self.text_name = fingerprint(parameter for part in self._texts for parameter in part.parameters())

    @torch.no_grad()
    def states(self, captions: Sequence[str]) -> list[dict[str, Tensor]]:
        """Encode captions to states of the UNet without a batch dimension, float16 on the CPU."""
        with self._lock:
            for part in self._texts:
                part.to(self.device)
            others = {"prompt_2": None, "prompt_3": None} if self._flow else {}
            made = self.pipeline.encode_prompt(
                list(captions),
                **others,
                device=self.device,
                num_images_per_prompt=1,
                do_classifier_free_guidance=False,
            )
        rows = {"encoder_hidden_states": made[0]}
        if self._flow:
            rows["pooled_projections"] = made[2]
        elif len(self._texts) > 1:
            rows["text_embeds"] = made[2]
        return [{name: tensor[index].half().cpu() for name, tensor in rows.items()} for index in range(len(captions))]


class ClipEncoder(_Encoder):
    """Latents of frames, and of frames as reference pictures, by the parts of a stock SVD pipeline."""

    def __init__(
        self, pipeline: DiffusionPipeline, device: torch.device, autocast_dtype: torch.dtype | None = None
    ) -> None:
        """Freeze the parts; see `_Encoder`."""
        super().__init__(pipeline, device, autocast_dtype)
        pipeline.image_encoder.requires_grad_(False).eval()

    @torch.no_grad()
    def frames(self, frames: Sequence[np.ndarray]) -> dict[str, Tensor]:
        """Encode the `F` frames `(H, W, 3)` uint8 of a clip; all float16 on the CPU.

        Returns:
            `latents` `(F, 4, h, w)` in the UNet's units; `stills` `(F, 4, h, w)` of the frame as the reference: unscaled,
            with a little noise, as in the pipeline; `embeddings` `(F, 1, D)` of each frame.
        """
        noise = torch.Generator().manual_seed(0)  # the same each time, so that cached values can be reproduced
        parts = []
        for start in range(0, len(frames), _FRAMES_AT_ONCE):
            some = frames[start : start + _FRAMES_AT_ONCE]
            pixels = as_pixels(some)
            noisy = pixels + NOISE_ON_REFERENCE * torch.randn(pixels.shape, generator=noise)
            with self._lock:
                self.pipeline.image_encoder.to(self.device)
                embeddings = self.pipeline._encode_image(
                    [Image.fromarray(frame) for frame in some], self.device, 1, False
                )
            parts.append((self.latents(some), self._mean(noisy).half().cpu(), embeddings.half().cpu()))
        names = ("latents", "stills", "embeddings")
        return {name: torch.cat(values) for name, values in zip(names, zip(*parts, strict=True), strict=True)}


def as_pixels(pictures: Sequence[np.ndarray]) -> Tensor:
    """Turn RGB pictures `(H, W, 3)` uint8 into `(B, 3, H, W)` float32 in [-1, 1], channels last."""
    batch = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1
    return batch.contiguous(memory_format=torch.channels_last)


def rest(pipeline: DiffusionPipeline) -> None:
    """Move every part of a pipeline but its UNet or transformer to main memory."""
    for name, part in pipeline.components.items():
        if name not in ("unet", "transformer") and isinstance(part, torch.nn.Module):
            part.to("cpu")
