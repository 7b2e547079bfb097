"""Pipelines of diffusion transformers with control: FLUX, Stable Diffusion 3 and Wan. Experimental: no weights are published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
from diffusers import FluxPipeline, StableDiffusion3Pipeline, WanPipeline
from torch import Tensor

from controlnext.method.adapter import Attachment, ControlNeXtAdapter
from controlnext.method.control_images import Picture, as_pictures, resized, size_of
from controlnext.method.pipelines import ControlNeXtMixin, PipelineError
from controlnext.method.windows import FrameConditions

if TYPE_CHECKING:
    from controlnext.method.injection import Gamma


class TransformerControlMixin(ControlNeXtMixin):
    """Adds control images to a stock pipeline whose model is a transformer; put it before the stock class in the bases.

    Some of these pipelines call their model twice a step, once for each half of guidance, and some have two models that
    share the steps. So the step is read from the scheduler, where the other pipelines count forwards.
    """

    _controlled: tuple[str, ...] = ("transformer",)
    _size_step = 16  # pixels of a token's side

    def _step(self, forwards: int) -> int:
        """See `ControlNeXtMixin`; a scheduler knows no step before its first is done."""
        return getattr(self.scheduler, "step_index", forwards) or 0


class FluxControlNeXtPipeline(TransformerControlMixin, FluxPipeline):
    """FLUX.1, text to image, with control. Experimental."""


class StableDiffusion3ControlNeXtPipeline(TransformerControlMixin, StableDiffusion3Pipeline):
    """Stable Diffusion 3 and 3.5, text to image, with control. Experimental.

    A model with one text encoder and no second or third, such as the starter's transformer, reads its last states and their
    pooled form.
    """

    def encode_prompt(self, prompt: str | list[str] | None, *args: Any, **options: Any) -> tuple[Any, ...]:
        """See `StableDiffusion3Pipeline.encode_prompt`."""
        given = options.get("prompt_embeds") is not None
        if given or self.text_encoder is None or self.text_encoder_2 is not None:
            stock: tuple[Any, ...] = super().encode_prompt(prompt, *args, **options)
            return stock
        prompts = [prompt] if isinstance(prompt, str) else list(prompt or [""])
        avoided = options.get("negative_prompt") or ""
        avoided = [avoided] * len(prompts) if isinstance(avoided, str) else list(avoided)
        if len(avoided) != len(prompts):
            raise PipelineError(
                f"There are {len(avoided)} negative prompts for {len(prompts)} prompts: give one, or as many."
            )
        each = options.get("num_images_per_prompt") or 1
        states, pooled = self._read(prompts, each)
        if not options.get("do_classifier_free_guidance", True):
            return states, None, pooled, None
        nothing, empty = self._read(avoided, each)
        return states, nothing, pooled, empty

    def _read(self, prompts: list[str], each: int) -> tuple[Tensor, Tensor]:
        """Encode prompts: states (B, tokens, width) and their pooled form (B, width), `each` times."""
        encoder, tokenizer = self.text_encoder, self.tokenizer
        ids = tokenizer(
            prompts, padding="max_length", truncation=True, max_length=tokenizer.model_max_length, return_tensors="pt"
        ).input_ids
        made = encoder(ids.to(encoder.device))
        return made.last_hidden_state.repeat_interleave(each, 0), made.pooler_output.repeat_interleave(each, 0)


class ExpertsAttachment(Attachment):
    """One adapter on two models that share the steps; both have its hooks and its weights, and one condition."""

    def __init__(self, adapter: ControlNeXtAdapter, first: Attachment, second: Attachment) -> None:
        """Join two attachments of one adapter."""
        self.adapter, self._parts = adapter, (first, second)

    @property
    def alpha(self) -> float:
        """See `Attachment.alpha`."""
        return self._parts[0].alpha

    @alpha.setter
    def alpha(self, alpha: float) -> None:
        for part in self._parts:
            part.alpha = alpha

    @property
    def attached(self) -> bool:
        """See `Attachment.attached`."""
        return all(part.attached for part in self._parts)

    def set(self, condition: Tensor | FrameConditions | None, gamma: Gamma = 1.0, **options: Any) -> None:
        """See `Attachment.set`."""
        for part in self._parts:
            part.set(condition, gamma, **options)

    def detach(self) -> None:
        """See `Attachment.detach`."""
        for part in self._parts:
            part.detach()


class WanControlNeXtPipeline(TransformerControlMixin, WanPipeline):
    """Wan 2.1 and 2.2, text to video, with control. Experimental.

    `control_image` is a clip, one picture a frame, and gives height, width and `num_frames`, one more than a multiple of four.
    The autoencoder makes one latent frame of the first frame and of each four that follow; its condition is the last of them.
    Where the base has two experts, the adapter is attached to both.
    """

    _controlled = ("transformer", "transformer_2")

    def _attach(self, adapter: ControlNeXtAdapter) -> Attachment:
        """See `ControlNeXtMixin`."""
        parts: list[Attachment] = []
        try:
            for model in self._models():
                parts.append(adapter.attach(model))
        except Exception:
            for part in parts:
                part.detach()
            raise
        return parts[0] if len(parts) == 1 else ExpertsAttachment(adapter, *parts)

    def _prepare_condition(
        self,
        control_image: Picture | Sequence[Picture],
        arguments: dict[str, Any],
        parameters: Mapping[str, Any],
    ) -> Tensor | FrameConditions:
        """See `ControlNeXtMixin`; returns `(1, latent frames, 3, H, W)`."""
        pictures = as_pictures(control_image)
        stride = cast("int", self.vae_scale_factor_temporal)
        frames = arguments.setdefault("num_frames", (len(pictures) - 1) // stride * stride + 1)
        if frames % stride != 1 or len(pictures) < frames:
            raise PipelineError(
                f"A video of {frames} frames cannot follow {len(pictures)} control pictures: give one a frame, and let the "
                f"number of frames be one more than a multiple of {stride}."
            )
        height, width = self._settle_size(size_of(pictures[0]), arguments, parameters)
        seen = [resized(picture, height, width) for picture in pictures[:frames:stride]]
        return torch.stack(seen)[None]
