"""The files of one video: the video, and on request a side-by-side comparison and the poses alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from PIL import Image

from controlnext.scratch import unfinished
from controlnext.video.ffmpeg import VideoError
from controlnext.video.frames import Frames
from controlnext.video.writer import Sound, VideoWriter, beside

if TYPE_CHECKING:
    from controlnext.animation.driving_clip import DrivingClip

BESIDE, POSES, POSE_DATA = ".beside.mp4", ".poses.mp4", ".poses.json"


class VideoFiles:
    """Writes frames as they arrive. A `with` block that ends without `finish` leaves no file."""

    def __init__(self, path: Path, driving: DrivingClip, *, beside: bool, poses: bool) -> None:
        """Name the files; nothing is written before the first frame.

        Args:
            path: of the video; the other files lie next to it.
            driving: the poses, and the clip they are from.
            beside: whether to write a version with result, poses and clip side by side.
            poses: whether to write the poses alone as well: as a video, and as JSON that `open_clip` reads.
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
        """Close the files and move them into place, the video first; yields sentences about what could not be saved.

        Raises:
            VideoError: the video cannot be written.
        """
        sound_of_clip = Sound(self.driving.clip, self.driving.plan.cut.start) if sound else None
        yield self.video.finish(sound_of_clip, contents)
        for name in ("beside", "poses"):
            writer = getattr(self, name)
            try:
                if writer is not None:
                    writer.finish(sound_of_clip, contents)
            except VideoError as error:  # the video itself is saved: a failed extra must not lose it
                setattr(self, name, None)
                yield str(error)
        if self.pose_data is not None:
            yield self._write_data(self.pose_data)

    def _write_data(self, path: Path) -> str:
        """Write the poses of the frames there are; return a sentence where they cannot be written."""
        poses = self.driving.poses
        partial = unfinished(path.parent, path.suffix)
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
        """Remove what was not finished."""
        for writer in (self.video, self.beside, self.poses, self._clip):
            if writer is not None:
                writer.close()
