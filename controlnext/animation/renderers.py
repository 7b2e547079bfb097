"""Renderers of control frames: a video model draws all frames together, an image model draws one after the other.

Both iterate over the frames in order. Frames are written as they arrive, so no whole video is ever in memory.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from PIL import Image

from controlnext.device import is_out_of_memory
from controlnext.errors import StudioError
from controlnext.progress import Clock, Pace, Progress, stop_if
from controlnext.recipes.inputs import Inputs
from controlnext.video.fitting import with_reference_first

if TYPE_CHECKING:
    from controlnext.animation.driving_clip import DrivingClip
    from controlnext.engine.engine import Engine
    from controlnext.engine.memory_savings import Saving
    from controlnext.engine.video_engine import VideoEngine
    from controlnext.method.video_pipeline import FrameStream
    from controlnext.recipes.video_recipe import VideoRecipe

logger = logging.getLogger(__name__)


@dataclass
class Renderer:
    """Base of both renderers.

    Attributes:
        engine: the loaded model, prepared for the recipe.
        recipe: what to make, with its prompt filled in.
        driving: the control frames.
        report: called after every step.
        cancel: stops once it is set.
        pace: how fast an earlier run of this kind was, if there was one; after the run, how fast this one was.
        memory_savings: memory savings that were needed on the way.
    """

    frames_stand_alone: ClassVar[bool] = False
    """Whether a shorter video has the very same frames."""

    engine: Engine
    recipe: VideoRecipe
    driving: DrivingClip
    report: Callable[[Progress], None]
    cancel: threading.Event
    pace: Pace | None = None
    memory_savings: list[Saving] = field(default_factory=list)

    def _save_memory(self, batch: int) -> None:
        """Need less memory from here on; called outside of the handler, so that the error holds on to nothing."""
        size = f"{self.recipe.width}x{self.recipe.height}"
        logger.warning("Out of memory with a video of %s", size)
        saving = self.engine.save_memory(self.recipe, batch)
        if saving is None:
            raise StudioError(
                f"There is not enough memory for a video of {size} and {len(self.driving)} frames; make it smaller or "
                "shorter, or close other programs."
            )
        self.memory_savings.append(saving)


class FrameRenderer(Renderer):
    """An image model draws each frame separately; all start from the same noise and the same prompt."""

    frames_stand_alone = True

    def __iter__(self) -> Iterator[Image.Image]:
        """Yield the frames.

        Raises:
            Cancelled: stopped; frames yielded before are complete.
            ControlNeXtError: there is not enough memory, or the numbers overflowed.
        """
        picture, pixels = self.recipe.picture(self.recipe.prompt), self.recipe.width * self.recipe.height
        count, done = len(self.driving), 0
        most = self.engine.savings.most(pixels, self.engine.preset.batch)
        clock = Clock(picture.steps_to_run, -(-count // most), self.pace)
        while done < count:
            most = self.engine.savings.most(pixels, self.engine.preset.batch)
            some = range(done, min(done + most, count))
            numbers = f"frame {done + 1}" if len(some) == 1 else f"frames {done + 1} to {some.stop}"
            stage = f"Drawing {numbers} of {count}"

            def on_step(preview: Image.Image | None, stage: str = stage) -> None:
                clock.tick()
                self.report(Progress(stage, clock.done, clock.total, clock.seconds_left, preview))
                stop_if(self.cancel)

            self.report(Progress(stage, clock.done, clock.total, clock.seconds_left))
            stop_if(self.cancel)
            clock.begin_batch()
            controls = [self.driving.control(index, self.recipe.drawing).image for index in some]
            try:
                images = self.engine.run(picture, [self.recipe.seed] * len(some), Inputs((controls,)), on_step)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                images = None
            if images is None:
                self._save_memory(len(some))
                clock.replan(-(-(count - done) // self.engine.savings.most(pixels, self.engine.preset.batch)))
                continue
            yield from images
            done += len(images)
            clock.end_batch()
            self.pace = clock.pace


class SequenceRenderer(Renderer):
    """A video model draws all frames together, in overlapping windows."""

    engine: VideoEngine

    def __iter__(self) -> Iterator[Image.Image]:
        """Yield the frames; the first comes when all are denoised. Errors as of `FrameRenderer`."""
        frames = None
        while frames is None:
            try:
                frames = self._denoised()
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
            if frames is None:
                self._save_memory(1)
        count = len(self.driving)
        clock = Clock(count, 1)
        try:
            for index, frame in enumerate(frames):
                if index < self._leading:
                    continue
                clock.tick()
                yield frame
                self.report(Progress("Writing frames", clock.done, count, clock.seconds_left, unit="frame"))
                stop_if(self.cancel)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            raise StudioError(
                f"There is not enough memory to decode a frame of {self.recipe.width}x{self.recipe.height}; make the "
                "video smaller, or close other programs."
            ) from error
        finally:
            frames.close()

    @property
    def _leading(self) -> int:
        """Frames before the video itself: the reference, where the model wants it there."""
        return int(self.engine.reference_leads)

    def _denoised(self) -> FrameStream:
        from controlnext.method.windows import plan_windows

        controls = ControlFrames(self.driving, leads=bool(self._leading), pose_style=self.recipe.drawing)
        windows = len(plan_windows(len(controls), self.recipe.window, self.recipe.overlap))
        steps = self.recipe.steps_to_run
        clock = Clock(steps * windows, 1, self.pace)

        def show(preview: Image.Image | None = None) -> None:
            at = f" step {min(clock.done // windows + 1, steps)} of {steps}" if windows > 1 else ""
            unit = "window" if windows > 1 else "step"
            self.report(Progress(f"Drawing{at}", clock.done, clock.total, clock.seconds_left, preview, unit))
            if clock.done < clock.total:  # a denoised video is decoded, not thrown away
                stop_if(self.cancel)

        def on_window(step: int, done: int, count: int) -> None:
            clock.tick()
            show()

        show()
        clock.begin_batch()
        frames = self.engine.animate(self.recipe, self.driving.reference, controls, self.driving.fps, show, on_window)
        self.pace = clock.pace
        return frames


class ControlFrames:
    """The control frames of a video as rows that are drawn on access; see `controlnext.method.windows.Rows`."""

    def __init__(self, driving: DrivingClip, *, leads: bool, pose_style: str = "classic") -> None:
        """Take a clip's poses, and the style in which the adapter expects them.

        Args:
            driving: the poses.
            leads: whether the reference's own pose comes first; without one, the first pose of the clip.
            pose_style: the `drawing` of a recipe.
        """
        track = driving.track
        if leads:
            own = driving.figure if driving.figure[:, 2].any() else track.points[0]
            track = with_reference_first(track, own)
        self._poses = track.poses()
        self._draw = partial(driving.draw_pose, drawing=pose_style)

    def __len__(self) -> int:
        """Count the frames."""
        return len(self._poses)

    def __getitem__(self, index: int) -> Image.Image:
        """Draw one."""
        return self._draw(self._poses.data(index)).image
