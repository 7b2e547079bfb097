"""The video writer: H.264 for every browser, at the clip's frame rate, with its sound, written atomically."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from PIL import Image

from controlnext.recipes.mp4 import metadata_file
from controlnext.scratch import unfinished
from controlnext.video.clip import Clip
from controlnext.video.ffmpeg import FfmpegProcess, VideoError, rate, run, source, write_failure

QUALITY = 18
"""x264's constant rate factor: visually the same as the frames; lower is better and larger."""

_KEY_SECONDS = 1  # between key frames: a scrubber lands quickly
_SOUND_BITS = "160k"
# Said and done: without the tags a player guesses the matrix by the size, and colours shift.
_COLOURS = ("-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709", "-color_range", "tv")
_TO_YUV = "scale=in_range=pc:out_range=tv:out_color_matrix=bt709,format=yuv420p"


@dataclass(frozen=True)
class Sound:
    """The sound of a clip from a time on; as much of it as the video is long.

    Attributes:
        clip: the clip; one without sound gives none.
        start: seconds.
    """

    clip: Clip
    start: float = 0.0


class VideoWriter:
    """Writes frames to an MP4 as they come. Left by an error or without `finish`, nothing stays behind.

    Any size is kept as it is but for one thing: H.264 as browsers play it (4:2:0) has even sides, so an odd side gets its
    last line once more. No side is rounded more.
    """

    def __init__(self, path: str | Path, fps: float, *, quality: int = QUALITY) -> None:
        """Name the video; nothing is written before the first frame.

        Args:
            path: the MP4; replaced in one step when it is finished.
            fps: frames a second, as in a `CutPlan`.
            quality: x264's constant rate factor, 0 to 51.
        """
        self.path = Path(path)
        self.fps = fps
        self.quality = quality
        self.frames = 0
        self._shape: tuple[int, ...] | None = None
        self._silent = unfinished(self.path.parent, ".mp4")
        self._process: FfmpegProcess | None = None

    def write(self, frame: np.ndarray) -> None:
        """Add a frame.

        Args:
            frame: RGB (H, W, 3) uint8, of the first one's size.

        Raises:
            VideoError: the disk is full, the folder cannot be written, or the frame has another size.
        """
        if (
            frame.dtype != np.uint8
            or frame.ndim != 3
            or frame.shape[2] != 3
            or frame.shape != (self._shape or frame.shape)
        ):
            raise VideoError(
                f"Every frame of a video is RGB (height, width, 3) uint8 of one size: {self._shape or 'the first'}, "
                f"then {frame.shape} {frame.dtype}."
            )
        height, width = frame.shape[:2]
        even = (
            np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge") if height % 2 or width % 2 else frame
        )
        if self._process is None:
            self._shape = frame.shape
            self._process = self._start(even.shape[1], even.shape[0])
        try:
            self._process.stdin.write(np.ascontiguousarray(even).data)
        except OSError as error:
            raise write_failure(self.path, self._process.log()) from error
        self.frames += 1

    def finish(self, sound: Sound | None = None, contents: Mapping[str, Any] | None = None) -> str:
        """Close the video, add sound and contents, and move it into place.

        Args:
            sound: added to the frames, cut to their length.
            contents: JSON object to carry, such as the recipe; read again by `read_contents`.

        Returns:
            A sentence if the sound could not be kept, else an empty text.

        Raises:
            VideoError: there were no frames, or it cannot be written.
        """
        if self._process is None:
            raise VideoError("There are no frames to write: the part of the clip that was chosen is empty.")
        try:
            status = self._process.wait()
        except OSError:  # the last frames found no reader
            status = 1
        if status:
            raise write_failure(self.path, self._process.log())
        sound = sound if sound and sound.clip.has_sound else None
        note, finished = "", unfinished(self.path.parent, ".mp4")
        try:
            status, log = self._join(finished, sound, contents or {})
            if status and sound:
                note = f"The sound of “{sound.clip.name}” could not be decoded, so the video is silent."
                status, log = self._join(finished, None, contents or {})
            if status:
                raise write_failure(self.path, log)
            with finished.open("rb+") as file:
                os.fsync(file.fileno())
            finished.replace(self.path)
        except OSError as error:
            raise write_failure(self.path, error) from error
        finally:
            finished.unlink(missing_ok=True)
            self.close()
        return note

    def close(self) -> None:
        """Give up, if it was not finished: nothing stays behind."""
        if self._process is not None:
            self._process.close()
            self._silent.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *failure: object) -> None:
        """Give up what was not finished."""
        self.close()

    def _start(self, width: int, height: int) -> FfmpegProcess:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise write_failure(self.path, error) from error
        tempo = str(rate(self.fps))
        frames = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", tempo, "-i", "pipe:0"]
        keys = ["-g", str(max(1, round(_KEY_SECONDS * self.fps)))]
        encoder = ["-c:v", "libx264", "-preset", "veryfast", "-crf", str(self.quality), *keys, *_COLOURS]
        return FfmpegProcess(
            ["-loglevel", "error", *frames, "-vf", _TO_YUV, *encoder, "-f", "mp4", f"file:{self._silent.absolute()}"],
            fed=True,
        )

    def _join(self, target: Path, sound: Sound | None, contents: Mapping[str, Any]) -> tuple[int, str]:
        """Put frames, sound and contents into one file, the frames untouched."""
        metadata = target.with_suffix(".txt")
        inputs, maps = ["-i", f"file:{self._silent.absolute()}"], ["-map", "0:v:0"]
        try:
            metadata.write_text(metadata_file(contents), encoding="ascii")
            inputs += ["-f", "ffmetadata", "-i", f"file:{metadata.absolute()}"]
            if sound:
                inputs += source(sound.clip.path, start=sound.start, seconds=self.frames / self.fps)
                maps += ["-map", "2:a:0", "-c:a", "aac", "-b:a", _SOUND_BITS]
            carried = ["-map_metadata", "1" if contents else "-1"]
            place = ["-movflags", "+faststart", "-f", "mp4", f"file:{target.absolute()}"]
            return run(["-loglevel", "error", *inputs, *maps, "-c:v", "copy", *carried, *place])
        finally:
            metadata.unlink(missing_ok=True)


def write_video(
    path: str | Path,
    frames: Iterable[np.ndarray],
    fps: float,
    *,
    sound: Sound | None = None,
    contents: Mapping[str, Any] | None = None,
) -> str:
    """Write a whole video; arguments and errors as of `VideoWriter`.

    Returns:
        A sentence if the sound could not be kept, else an empty text.
    """
    with VideoWriter(path, fps) as writer:
        for frame in frames:
            writer.write(frame)
        return writer.finish(sound, contents)


def beside(*frames: np.ndarray) -> np.ndarray:
    """Put frames side by side, each brought to the first one's height, its shape kept.

    Args:
        frames: RGB (H, W, 3) uint8, at least one.

    Returns:
        RGB (H, sum of widths, 3) uint8.
    """
    height = frames[0].shape[0]
    return np.concatenate([_of_height(frame, height) for frame in frames], axis=1)


def _of_height(frame: np.ndarray, height: int) -> np.ndarray:
    if frame.shape[0] == height:
        return frame
    width = max(1, round(frame.shape[1] * height / frame.shape[0]))
    return np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.LANCZOS))
