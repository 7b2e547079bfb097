"""Stable Video Diffusion with control, for videos of any length: windows over time, frames decoded on demand."""

from __future__ import annotations

import inspect
from collections.abc import Generator, Mapping, Sequence
from typing import Any, Self, cast

import numpy as np
import PIL.Image
import torch
from diffusers import StableVideoDiffusionPipeline
from torch import Tensor

from controlnext.device import is_out_of_memory, release_memory
from controlnext.method.control_images import ControlImageError, as_pictures, size_of
from controlnext.method.pipelines import ControlNeXtMixin, PipelineError, count_prompts, given
from controlnext.method.windows import FrameConditions, Guidance, OnWindow, Rows, Windows, frame_tensor

WINDOW, OVERLAP = 14, 4
"""Default frames of a window and of its overlap; those of the authors' runners."""

RELEASED_TIME_IDS = (6, 128, 0.02)
"""Frames a second less one, motion bucket, noise: what the authors' pipelines always pass to the UNet."""


class StableVideoDiffusionControlNeXtPipeline(ControlNeXtMixin, StableVideoDiffusionPipeline):
    """Stable Video Diffusion (and the video starter) with control; `control_image` is one picture a frame."""

    _micro_conditioning = True
    _guided = False
    _shared_noise = 0.0

    def __call__(
        self,
        *args: Any,
        window: int | None = None,
        overlap: int = OVERLAP,
        micro_conditioning: bool = True,
        shared_noise: float = 0.0,
        on_window: OnWindow | None = None,
        **kwargs: Any,
    ) -> Any:  # noqa: ANN401 - what the stock call returns
        """Run the stock call with control, in windows over time.

        Beside what follows it takes `control_image`, `gamma`, `alpha`, `control_start` and `control_end` as the pipelines
        for pictures do. For svd-v2, `control_image` begins with the reference's own pose and the first frame that comes
        out repeats the reference.

        Args:
            *args: As the stock pipeline takes them.
            window: Frames that the UNet sees at once; longer videos run in windows. None = 14 with control images, and
                without them the whole video: the stock call.
            overlap: Frames that windows share, where they are averaged; fewer than `window`.
            micro_conditioning: Whether the UNet is given `fps`, `motion_bucket_id` and `noise_aug_strength`.
                If not, it gets what the authors' pipelines always pass: 7 frames a second, bucket 128 and noise 0.02; the
                noise on the start picture is still as asked for.
            shared_noise: Share of the starting noise that all frames have in common, as a share of its variance, 0 to 1. 0 is
                the stock noise, new in each frame; more keeps the background steadier where the model follows its noise
                (the mixed noise of arXiv 2305.10474). `latents` that are given stay as they are.
            on_window: Called after each window with the step (from 0), the windows of it that are done, and how many
                there are; may raise to stop.
            **kwargs: As the stock pipeline takes them, with these differences. `control_image`: one picture a frame, in
                a list, an array `(F, H, W, 3)`, a tensor `(F, 3, H, W)`, or anything with a length that gives or draws a
                frame by its number, which then need not be in memory; it sets the number of frames and the size.
                `decode_chunk_size`: None = as many as a window. `min_guidance_scale` to `max_guidance_scale` runs over
                each window, as it does over the videos that the models were made with.

        Returns:
            What the stock pipeline returns. For long videos see `stream`, which never holds all frames.

        Raises:
            PipelineError: No adapter is loaded, or arguments do not go together.
            WindowError: window and overlap do not go together.
        """
        if not 0 <= shared_noise <= 1:
            raise PipelineError(f"The shared noise is a share from 0 to 1, not {shared_noise!r}.")
        arguments = self._bound(args, kwargs)
        if window is None and kwargs.get("control_image") is not None:
            window = WINDOW
        if arguments.get("decode_chunk_size") is None and window is not None:
            arguments["decode_chunk_size"] = window
        guidance = self._guidance(arguments)
        self._guided, self._micro_conditioning = guidance.last > 1, micro_conditioning
        self._shared_noise = shared_noise
        varied = guidance if self._guided and guidance.first != guidance.last else None
        windows = Windows(self.unet, window, overlap, guidance=varied, on_window=on_window)
        # Past diffusers' own setter, which would note the class of a component that only lasts for this call.
        self.__dict__["unet"] = windows
        try:
            return super().__call__(**arguments, **{key: kwargs[key] for key in kwargs.keys() - arguments.keys()})
        finally:
            self.__dict__["unet"] = windows.unet
            self._micro_conditioning, self._shared_noise = True, 0.0

    def stream(self, *args: Any, **kwargs: Any) -> FrameStream:
        """Denoise a video and return its frames one by one, decoded a few at a time.

        Args:
            *args: As the call takes them.
            **kwargs: Likewise, but for one video only; `output_type` is that of a frame.

        Returns:
            An iterator of PIL pictures with the number of frames as its length. Nothing is decoded before it is asked
            for a frame, and no frame is held after it was given.

        Raises:
            PipelineError: Several videos are asked for, or arguments do not go together.
        """
        arguments = self._bound(args, kwargs)
        if (videos := count_prompts(arguments) * (given(arguments, "num_videos_per_prompt") or 1)) != 1:
            raise PipelineError(f"One video can be streamed at a time, not {videos}: call stream for each.")
        output_type = arguments.get("output_type", "pil")
        if output_type == "latent":
            raise PipelineError("Latents are not streamed: call the pipeline itself for output_type='latent'.")
        latents = self(**{**arguments, **kwargs, "output_type": "latent", "return_dict": True}).frames[0]
        chunk = arguments.get("decode_chunk_size") or kwargs.get("window") or WINDOW
        return FrameStream(self, latents, chunk, output_type)

    @property
    def do_classifier_free_guidance(self) -> bool:
        """Whether the UNet runs on both halves; for a video of one frame diffusers forgets it on the way."""
        return self._guided

    def prepare_latents(self, *args: Any, **kwargs: Any) -> Tensor:
        """Draw the starting noise `(1, F, C, h, w)`, some of it the same in each frame."""
        names = inspect.signature(super().prepare_latents).bind(*args, **kwargs).arguments
        own: Tensor = super().prepare_latents(*args, **kwargs)
        if names.get("latents") is not None or not self._shared_noise:
            return own
        shared = super().prepare_latents(**{**names, "num_frames": 1})
        mixed: Tensor = own * (1 - self._shared_noise) ** 0.5 + shared * self._shared_noise**0.5
        return mixed

    def maybe_free_model_hooks(self) -> None:
        """Put the UNet itself back before diffusers takes offloading off it and on again."""
        if isinstance(self.unet, Windows):
            self.__dict__["unet"] = self.unet.unet
        super().maybe_free_model_hooks()

    def _bound(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Name the stock call's arguments among those given."""
        signature = inspect.signature(super(ControlNeXtMixin, self).__call__)
        known = {key: value for key, value in kwargs.items() if key in signature.parameters}
        return dict(signature.bind_partial(*args, **known).arguments)

    def _guidance(self, arguments: Mapping[str, Any]) -> Guidance:
        """Return the scales of a call."""
        parameters = inspect.signature(super(ControlNeXtMixin, self).__call__).parameters
        names = ("min_guidance_scale", "max_guidance_scale")
        return Guidance(*(arguments.get(name, parameters[name].default) for name in names))

    def _get_add_time_ids(self, fps: int, motion_bucket_id: int, noise_aug_strength: float, *rest: Any) -> Tensor:
        """Return the micro-conditioning of the UNet: what was asked for, or what the authors' pipelines pass."""
        ids = (fps, motion_bucket_id, noise_aug_strength) if self._micro_conditioning else RELEASED_TIME_IDS
        told: Tensor = super()._get_add_time_ids(*ids, *rest)
        return told

    def _prepare_condition(
        self,
        control_image: Any,  # noqa: ANN401 - as given
        arguments: dict[str, Any],
        parameters: Mapping[str, Any],
    ) -> Tensor | FrameConditions:
        """Take the frames of one video: a tensor `(1, F, 3, H, W)` if a window holds them, else frame by frame."""
        frames = as_frames(control_image)
        if (wanted := arguments.get("num_frames") or len(frames)) != len(frames):
            raise PipelineError(
                f"A video of {wanted} frames needs as many control images, but {len(frames)} were given."
            )
        arguments["num_frames"] = len(frames)
        height, width = self._settle_size(size_of(as_pictures(frames[0])[0]), arguments, parameters)
        if len(self.unet.plan(len(frames))) > 1:
            return FrameConditions(frames, height, width, self.unet)
        return torch.stack([frame_tensor(frames[index], height, width) for index in range(len(frames))])[None]


class FrameStream:
    """The frames of a denoised video, in order, decoded a few at a time.

    Attributes:
        latents: `(F, C, h, w)`.
        decode_chunk_size: Frames decoded at once; smaller where memory was not enough for them.
    """

    def __init__(
        self,
        pipeline: StableVideoDiffusionControlNeXtPipeline,
        latents: Tensor,
        decode_chunk_size: int,
        output_type: str = "pil",
    ) -> None:
        """Take what `StableVideoDiffusionControlNeXtPipeline.stream` denoised."""
        self.latents = latents
        self.decode_chunk_size = decode_chunk_size
        self._pipeline, self._output_type = pipeline, output_type
        self._frames = self._decoded()

    def __len__(self) -> int:
        """Count the frames of the video, also those given already."""
        return len(self.latents)

    def __iter__(self) -> Self:
        """Return itself."""
        return self

    def __next__(self) -> PIL.Image.Image:
        """Return the next frame."""
        return next(self._frames)

    def close(self) -> None:
        """End early; an offloaded pipeline goes back to where it waits."""
        self._frames.close()

    def _decoded(self) -> Generator[PIL.Image.Image]:
        done = 0
        try:
            while done < len(self.latents):
                frames = self._decode(self.latents[done : done + self.decode_chunk_size])
                if frames is None:  # here the error is gone, and with it what filled the memory
                    self.decode_chunk_size = max(1, self.decode_chunk_size // 2)
                    release_memory()
                    continue
                done += len(frames)
                while len(frames):
                    frame, frames = frames[0], frames[1:]
                    yield frame
        finally:
            self._pipeline.maybe_free_model_hooks()

    @torch.no_grad()
    def _decode(self, latents: Tensor) -> Any:  # noqa: ANN401 - as the output type has it
        """Decode some frames; None if memory is not enough for so many."""
        try:
            video = self._pipeline.decode_latents(latents[None], len(latents), len(latents))
            return self._pipeline.video_processor.postprocess_video(video, self._output_type)[0]
        except Exception as error:
            if len(latents) == 1 or not is_out_of_memory(error):
                raise
            return None


def as_frames(control_image: Any) -> Rows:  # noqa: ANN401 - checked here
    """Take the control images of a video in any form as rows of frames.

    Args:
        control_image: A list; an array `(F, H, W, 3)` or a tensor `(F, 3, H, W)`; anything with a length and frames by
            number; any other iterable, which is read to its end; or one picture.

    Returns:
        The rows; none of them was looked at.

    Raises:
        ControlImageError: It is none of these, or empty.
    """
    if isinstance(control_image, PIL.Image.Image) or (
        isinstance(control_image, np.ndarray | Tensor) and control_image.ndim < 4
    ):
        return [control_image]
    if not hasattr(control_image, "__getitem__") or not hasattr(control_image, "__len__"):
        try:
            control_image = list(control_image)
        except TypeError as error:
            raise ControlImageError(
                f"The control images of a video are one picture a frame, not {type(control_image).__name__}."
            ) from error
    if not len(control_image):
        raise ControlImageError("The list of control images is empty.")
    return cast("Rows", control_image)
