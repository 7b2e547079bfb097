"""The engine of video models: a pipeline that moves a reference picture along control frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image

from controlnext.engine.engine import Engine, EngineError, StepCallback, control_strength
from controlnext.recipes.areas import area_picture

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline
    from torch import Tensor

    from controlnext.engine.preview import CleanEstimate
    from controlnext.loras.file import LoraInfo
    from controlnext.method.video_pipeline import FrameStream
    from controlnext.method.windows import Rows
    from controlnext.recipes.recipe import Recipe
    from controlnext.recipes.video_recipe import VideoRecipe

_LOOKED_AT = 4  # frames of a preview, spread over the video
_DECODED = 4  # frames at once: of 576x1024 they take about 3 GB, and more at once gain nothing


class VideoEngine(Engine):
    """A loaded video model."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """Take a loaded pipeline; its decoder has no tiles, so that saving is skipped."""
        super().__init__(*arguments, **options)
        if "tiling" not in self.savings.taken:
            self.savings.taken.append("tiling")

    @property
    def reference_leads(self) -> bool:
        """Whether the control frames begin with the reference's own pose, and the video with the reference itself."""
        return any(attached.adapter.variant.reference_leads for attached in self.pipeline.controlnexts.values())

    def animate(
        self,
        recipe: VideoRecipe,
        reference: Image.Image,
        controls: Rows,
        fps: float,
        on_step: StepCallback,
        on_window: Callable[[int, int, int], object],
    ) -> FrameStream:
        """Make a video; denoised as a whole before this returns, decoded as it is read.

        Args:
            recipe: what to make; `prepare` was called with it.
            reference: picture of the recipe's size.
            controls: control frames, drawn when they are asked for.
            fps: frames a second of the video.
            on_step: called after each step with a preview; may raise to stop.
            on_window: called after each window with the step, the windows of it that are done and how many there are.

        Returns:
            The frames, one for each control frame.

        Raises:
            EngineError: the model's numbers overflowed.
        """
        from controlnext.engine.preview import CleanEstimate

        (control,) = recipe.all_controls
        estimate: CleanEstimate | None = None

        def after_step(
            pipeline: DiffusionPipeline, step: int, timestep: Tensor | int, tensors: dict[str, Any]
        ) -> dict[str, Any]:
            nonlocal estimate
            estimate = estimate or CleanEstimate(pipeline.scheduler)
            latents = tensors["latents"]
            some = torch.linspace(0, latents.shape[1] - 1, min(_LOOKED_AT, latents.shape[1])).round().long()
            on_step(self._look(estimate(step, latents[0, some.to(latents.device)]), recipe))
            if step + 1 == recipe.steps_to_run and not torch.isfinite(latents).all():
                raise EngineError(
                    f"The numbers of {self.preset.title} overflowed in {latents.dtype}, so there is no video; lower "
                    "guidance, or set `precision: float32` in its preset."
                )
            return tensors

        return self.pipeline.stream(
            reference,
            control_image=controls,
            width=recipe.width,
            height=recipe.height,
            gamma=control_strength(control),
            alpha=control.alpha,
            control_start=control.control_start,
            control_end=control.control_end,
            control_mask=area_picture(control.area) if control.area else None,
            window=recipe.window,
            overlap=recipe.overlap,
            fps=max(1, round(fps)),
            motion_bucket_id=recipe.motion_bucket_id,
            noise_aug_strength=recipe.noise_aug_strength,
            shared_noise=recipe.shared_noise,
            micro_conditioning=recipe.micro_conditioning,
            min_guidance_scale=recipe.guidance_scale,
            max_guidance_scale=recipe.guidance_scale,
            num_inference_steps=recipe.num_inference_steps,
            decode_chunk_size=_DECODED,
            generator=torch.Generator("cpu").manual_seed(recipe.seed),
            callback_on_step_end=after_step,
            on_window=on_window,
        )

    def prompt_notes(self, recipe: Recipe) -> list[str]:
        """Video models read no words, so none is left as it is."""
        return []

    def _take_loras(self, loras: Sequence[tuple[LoraInfo, float]]) -> None:
        """Video models take none."""

    def _take_reference(self, recipe: Recipe) -> None:
        """Video models have the reference that they animate."""
