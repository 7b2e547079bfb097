"""Runs on a ZeroGPU Space, each on a GPU borrowed for the estimated time, in a process of its own.

Nothing but what a run needs goes into that process, and progress, the result or a sentence come out of it; a stop closes the
generator there. Whatever needs no GPU, such as reading a clip, is done before one is borrowed.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict

from annotators.base import AnnotatorError
from controlnext.errors import ControlNeXtError
from controlnext.progress import Progress
from controlnext.ui.worker import Stream, VideoOrder, VideoStream, animated_in_thread, in_thread, run_in_thread

if TYPE_CHECKING:
    from controlnext.animation.driving_clip import DrivingClip
    from controlnext.recipes.video_recipe import VideoRecipe
    from controlnext.studio.studio import Studio

PICTURE_SECONDS = 30
"""Seconds of a GPU that one run of pictures is lent."""

VIDEO_SECONDS = 120
"""Most seconds that one video is lent: visitors who are not signed in are refused at 300."""

LOADING_SECONDS = 20
STEP_SECONDS = 0.12
DECODE_SECONDS = 0.4
"""Seconds for a model to get onto the GPU; for a megapixel of one frame in one guided step; for a megapixel to be decoded.

Source: stabilityai/stable-video-diffusion-img2vid-xt-1-1-tensorrt, 25 frames of 576x1024 in 25 steps on an A100: 27.5 s of
steps (0.075 s a megapixel) and 4.5 s of decoding (0.31), with half as much again for a UNet that is not compiled.
"""


class Streams(TypedDict):
    """Arguments of `build_ui`."""

    stream: Stream
    video_stream: VideoStream


class BorrowError(ControlNeXtError, RuntimeError):
    """What was asked for takes longer than a GPU is lent, or failed in the process that works on it."""


@dataclass(frozen=True)
class _Failed:
    """A sentence on its way out: of an exception raised in there, nothing but its class would come through."""

    sentence: str


def borrowed_streams(studio: Studio) -> Streams:
    """Return what runs recipes on borrowed GPUs; `spaces` is imported here, which must come before torch."""
    import spaces

    @spaces.GPU(duration=PICTURE_SECONDS)
    def draw(recipe, inputs):  # noqa: ANN001, ANN202 - `spaces` reads the signature
        yield from _sentences_out(run_in_thread(studio, recipe, inputs, threading.Event()))

    @spaces.GPU(duration=_lent)
    def animate(order, driving):  # noqa: ANN001, ANN202 - as above
        yield from _sentences_out(animated_in_thread(studio, order, threading.Event(), driving))

    def stream(recipe: Any, inputs: Any, cancel: threading.Event) -> Iterator[Any]:  # noqa: ANN401 - as `Stream`
        yield from _passed_on(lambda: draw(recipe, inputs), cancel)

    def video_stream(order: VideoOrder, cancel: threading.Event) -> Iterator[Any]:
        driving = None
        for report in in_thread(lambda report: _read(studio, order, report, cancel), cancel):
            if isinstance(report, Progress):
                yield report
            else:
                driving = report
        if driving is None:  # stopped
            return
        check_length(order.recipe, len(driving))
        yield from _passed_on(lambda: animate(order, driving), cancel)

    return Streams(stream=stream, video_stream=video_stream)


def video_seconds(recipe: VideoRecipe, frames: int) -> float:
    """Estimate how long a GPU takes for a video, with a margin; see `STEP_SECONDS`."""
    from controlnext.method.windows import plan_windows

    drawn = sum(len(window) for window in plan_windows(frames, recipe.window, recipe.overlap))
    megapixels = recipe.width * recipe.height / 1e6
    return LOADING_SECONDS + megapixels * (drawn * recipe.num_inference_steps * STEP_SECONDS + frames * DECODE_SECONDS)


def check_length(recipe: VideoRecipe, frames: int) -> None:
    """Refuse a video that a borrowed GPU would not finish: it would be ended halfway, with nothing to show.

    Raises:
        BorrowError: it takes longer than `VIDEO_SECONDS`; the sentence says how many frames do not.
    """
    seconds = video_seconds(recipe, frames)
    if seconds <= VIDEO_SECONDS:
        return
    fitting = next(
        count for count in range(frames, 0, -1) if video_seconds(recipe, count) <= VIDEO_SECONDS or count == 1
    )
    raise BorrowError(
        f"{frames} frames of {recipe.width}x{recipe.height} in {recipe.num_inference_steps} steps would take a GPU about "
        f"{seconds:.0f} s, and here one is lent for {VIDEO_SECONDS} s: take {fitting} frames at most, fewer steps "
        "or a smaller size."
    )


def _lent(order: VideoOrder, driving: DrivingClip) -> int:
    return min(VIDEO_SECONDS, math.ceil(video_seconds(order.recipe, len(driving))))


def _read(studio: Studio, order: VideoOrder, report: Callable[..., None], cancel: threading.Event) -> DrivingClip:
    return studio.animator.read(order.recipe, order.reference, order.clip, on_progress=report, cancel=cancel)


def _sentences_out(work: Iterator[Any]) -> Iterator[Any]:
    try:
        yield from work
    except (ControlNeXtError, AnnotatorError) as error:
        yield _Failed(str(error))


def _passed_on(borrow: Callable[[], Iterator[Any]], cancel: threading.Event) -> Iterator[Any]:
    if cancel.is_set():
        return
    for report in borrow():
        if isinstance(report, _Failed):
            raise BorrowError(report.sentence)
        yield report
        if cancel.is_set():
            return
