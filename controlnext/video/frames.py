"""Frames of a clip, decoded one at a time: memory does not depend on the clip's length."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Self

import numpy as np
from PIL import Image

from controlnext.recipes.pictures import fit_condition
from controlnext.video.clip import SQUARE, Clip, open_picture
from controlnext.video.ffmpeg import PICTURES_OUT, FfmpegProcess, VideoError, rate, read_picture, source
from controlnext.video.plan import CutPlan, plan_cut, taken_pictures

# Messages of decoders about damage; their other messages concern no frame.
_DAMAGE = re.compile(r"error while decoding|Error submitting packet|Invalid NAL|[Cc]orrupt|partial file|Truncat")

_BEFORE = 0.25  # of the time of a frame


class Frames:
    """An iterator of RGB frames (H, W, 3) uint8, all of one size; leaving the `with` block ends the decoder.

    Attributes:
        clip: what is read.
        plan: which part of it.
        count: frames given so far.
        note: after the end, a sentence if the clip turned out to be damaged; else empty.
    """

    def __init__(self, clip: Clip, plan: CutPlan) -> None:
        """Get ready; nothing is started before the first frame is asked for."""
        self.clip = clip
        self.plan = plan
        self.count = 0
        self.note = ""
        made = self._nothing if clip.poses is not None else self._pictures if clip.pictures else self._decoded
        self._made = made()

    def __iter__(self) -> Iterator[np.ndarray]:
        """Return itself: a clip is read once."""
        return self

    def __next__(self) -> np.ndarray:
        """Return the next frame."""
        frame = next(self._made)
        self.count += 1
        return frame

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *failure: object) -> None:
        """End the decoder."""
        self.close()

    def close(self) -> None:
        """End the decoder; there are no frames after that."""
        self._made.close()

    def _nothing(self) -> Iterator[np.ndarray]:
        """Black, where a clip is poses alone."""
        for _ in range(self.plan.frames):
            yield np.zeros((self.plan.height, self.plan.width, 3), np.uint8)

    def _pictures(self) -> Iterator[np.ndarray]:
        size = (self.plan.width, self.plan.height)
        for index in taken_pictures(self.clip, self.plan.cut)[: self.plan.cut.max_frames]:
            image = open_picture(self.clip.pictures[index])
            if image.width * size[1] != image.height * size[0] and image.size != (self.clip.width, self.clip.height):
                yield np.asarray(fit_condition(image, *size)).copy()  # of another shape: padded, never stretched
            else:
                shrunk = image if image.size == size else image.resize(size, Image.Resampling.LANCZOS)
                yield np.asarray(shrunk).copy()

    def _decoded(self) -> Iterator[np.ndarray]:
        with FfmpegProcess(["-loglevel", "error", *self._arguments()]) as process:
            given = 0
            while (frame := read_picture(process.stdout)) is not None:
                given += 1
                yield frame
                del frame  # the caller's alone while the next one is decoded
            process.wait()
            log = process.log()
        if not given:
            raise VideoError(
                f"No frame of “{self.clip.name}” can be decoded from {self.plan.cut.start:g} s on: choose an earlier "
                "start, or export the clip again."
            )
        self.note = self._damage(log, given)

    def _arguments(self) -> list[str]:
        cut = self.plan.cut
        # a little before the frame, so that rounding to microseconds cannot skip it
        start = max(0.0, cut.start - _BEFORE / self.clip.fps) if self.clip.sought else 0.0
        filters = [
            *self.clip.colour.first,
            *([f"setpts=PTS-{cut.start:.6f}/TB"] if cut.start else []),
            # from the cut's own start, so that sound cut alike stays in step; `pass` keeps a clip of one frame
            f"fps=fps={rate(cut.fps)}:start_time=0:eof_action=pass",
            *([f"select='not(mod(n\\,{cut.stride}))'"] if cut.stride > 1 else []),
            SQUARE,
            f"scale={self.plan.width}:{self.plan.height}:flags=area",
            *self.clip.colour.last,
        ]
        return [
            # else times would begin at the seek, rounded to the hundredths of a GIF
            *(("-copyts", "-start_at_zero") if start else ()),
            *source(self.clip.path, start=start, seconds=cut.end - (start and cut.start) if cut.end else 0.0),
            *("-map", "0:V:0", "-vf", ",".join(filters), "-fps_mode", "passthrough"),
            *("-frames:v", str(cut.max_frames), *PICTURES_OUT),
        ]

    def _damage(self, log: str, given: int) -> str:
        if not _DAMAGE.search(log):
            return ""
        short = (
            f" It ended after {given} of about {self.plan.frames} frames." if given < 0.9 * self.plan.frames else ""
        )
        return (
            f"“{self.clip.name}” is damaged in places: frames that could not be decoded repeat the one before.{short}"
        )


def read_frames(clip: Clip, plan: CutPlan | None = None) -> Frames:
    """Read a clip's frames, upright, one at a time.

    Args:
        clip: as `open_clip` found it.
        plan: which part; None takes what `plan_cut` allows.

    Returns:
        An iterator of RGB frames (`plan.height`, `plan.width`, 3) uint8 at `plan.fps`, for a `with` block. Frame i is at
        `plan.cut.start + i / plan.fps` seconds of the clip. Variable frame rates become constant ones; broken frames
        repeat the one before, so that the timing stays.

    Raises:
        VideoError: while iterating, when not one frame can be decoded.
    """
    return Frames(clip, plan or plan_cut(clip))
