"""The files of one video: itself, and on request itself beside its clip, and its poses alone."""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from PIL import Image

from controlnext.recipes.mp4 import read_contents
from controlnext.recipes.recipe import RecipeError
from controlnext.video.ffmpeg import VideoError
from controlnext.video.frames import Frames
from controlnext.video.writer import Sound, VideoWriter, beside

if TYPE_CHECKING:
    from controlnext.animation.driven import Driving

REFERENCE_KEY = "controlnext:reference"
"""Where a video carries its reference picture: a PNG in base64."""

BESIDE, POSES, POSE_DATA = ".beside.mp4", ".poses.mp4", ".poses.json"


class Output:
    """Writes frames as they come; left without `finish`, nothing stays behind."""

    def __init__(self, path: Path, driving: Driving, *, beside: bool, poses: bool) -> None:
        """Name the files; nothing is written before the first frame.

        Args:
            path: of the video; the others lie beside it.
            driving: the poses, and the clip they are from.
            beside: whether a version is wanted that shows result, poses and clip side by side.
            poses: whether the poses alone are wanted, too: as a video, and as JSON that `open_clip` reads.
        """
        self.driving = driving
        self.video = VideoWriter(path, driving.fps)
        self.beside = VideoWriter(path.with_suffix(BESIDE), driving.fps) if beside else None
        self.poses = VideoWriter(path.with_suffix(POSES), driving.fps) if poses else None
        self.pose_data = path.with_suffix(POSE_DATA) if poses else None
        self._clip = Frames(driving.clip, driving.plan) if beside else None
        self._last: np.ndarray | None = None

    @property
    def frames(self) -> int:
        """Frames written so far."""
        return self.video.frames

    def write(self, image: Image.Image) -> None:
        """Add a frame.

        Raises:
            VideoError: the disk is full, or the folder cannot be written.
        """
        index, rgb = self.frames, np.asarray(image.convert("RGB"))
        self.video.write(rgb)
        if self.beside is None and self.poses is None:
            return
        control = self.driving.frame(index)
        if self.poses is not None:
            self.poses.write(control)
        if self.beside is not None:
            self._last = next(self._clip, self._last)
            self.beside.write(beside(rgb, control, self._last))

    def finish(self, contents: Mapping[str, Any], *, sound: bool) -> Iterator[str]:
        """Close the files and move them into place, the video first; yields sentences about what could not be kept.

        Raises:
            VideoError: the video cannot be written.
        """
        heard = Sound(self.driving.clip, self.driving.plan.cut.start) if sound else None
        yield self.video.finish(heard, contents)
        for name in ("beside", "poses"):
            writer = getattr(self, name)
            try:
                if writer is not None:
                    writer.finish(heard, contents)
            except VideoError as error:  # the video itself is there: an extra costs no more than itself
                setattr(self, name, None)
                yield str(error)
        if self.pose_data is not None:
            yield self._write_data(self.pose_data)

    def _write_data(self, path: Path) -> str:
        """Write the poses of the frames there are; return a sentence where they cannot be written."""
        poses = self.driving.poses
        partial = path.with_suffix(".partial")
        try:
            partial.write_text(replace(poses, frames=poses.frames[: self.frames]).to_json(), encoding="utf-8")
            partial.replace(path)
        except OSError as error:
            partial.unlink(missing_ok=True)
            self.pose_data = None
            return f"The poses cannot be written as {path.name} ({error.strerror or error}): make room on the disk."
        return ""

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *failure: object) -> None:
        """Give up what was not finished."""
        for writer in (self.video, self.beside, self.poses, self._clip):
            if writer is not None:
                writer.close()


def pack_reference(reference: Image.Image) -> str:
    """Write a reference picture as a video carries it."""
    buffer = io.BytesIO()
    reference.save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def read_reference(source: str | Path) -> Image.Image | None:
    """Read the reference picture inside a video, or None where there is none.

    Raises:
        RecipeError: there is one and it is damaged.
    """
    text = read_contents(source).get(REFERENCE_KEY)
    if text is None:
        return None
    try:
        return Image.open(io.BytesIO(base64.b64decode(text, validate=True)), formats=["PNG"]).convert("RGB")
    except (binascii.Error, OSError, SyntaxError, TypeError, ValueError, Image.DecompressionBombError):
        raise RecipeError("The reference inside this video is damaged; give the reference itself.") from None
