"""The ffmpeg process: its binary, its arguments and its pipes. The binary comes with the imageio-ffmpeg wheel."""

from __future__ import annotations

import errno
import os
import subprocess
import tempfile
from collections.abc import Sequence
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import BinaryIO, Self

import numpy as np

from controlnext.errors import ControlNeXtError

SOUGHT = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "gif", "avi", "apng")
"""Containers in which a start is found exactly."""

DECODED = (
    *(
        "webp_anim",
        "mpegts",
        "mpeg",
        "mpegvideo",
        "m4v",
        "h264",
        "hevc",
        "obu",
        "ivf",
        "flv",
        "asf",
        "mxf",
        "gxf",
        "lxf",
        "dv",
    ),
    *("nut", "ogg", "rm", "wtv", "vc1", "vc1test", "dirac", "cavsvideo", "dhav", "nsv", "pva", "swf", "yuv4mpegpipe"),
)
"""Containers without a reliable index: a start is found by decoding everything before it. Playlists, image sequences and manifests
are missing on purpose: they make ffmpeg open other files. Older builds of ffmpeg lack some of these and report that."""

SOUND_ONLY = ("mp3", "wav", "flac", "aac", "aiff", "caf")
MAX_PIXELS = 40_000_000
"""Pixels of a frame that is decoded: above 8K; a crafted header could ask for far more memory than there is."""

# An upload may be a playlist under another name that makes ffmpeg open other files or addresses: only containers that
# hold their own frames are opened, and only as files.
_SAFE = ("-protocol_whitelist", "file", "-format_whitelist", ",".join((*SOUGHT, *DECODED, *SOUND_ONLY)))
_DECODE = ("-max_pixels", str(MAX_PIXELS))
_LOG_TAIL = 64 << 10
_PIPE_BUFFER = 1 << 20
_NTSC = 1001  # 29.97 in a log is 30000/1001


class VideoError(ControlNeXtError, ValueError):
    """A clip that cannot be read, or a video that cannot be written; the text is one sentence for people."""


def binary() -> str:
    """Path of ffmpeg.

    Raises:
        VideoError: there is none on this machine.
    """
    try:
        import imageio_ffmpeg

        return imageio_ffmpeg.get_ffmpeg_exe()
    except (ImportError, RuntimeError) as error:
        raise VideoError(
            "Video needs ffmpeg, which comes with the package imageio-ffmpeg: pip install -r requirements.txt."
        ) from error


def source(path: Path, *, start: float = 0.0, seconds: float = 0.0) -> list[str]:
    """Arguments that open a file a person gave.

    Args:
        path: the file.
        start: seconds to skip, exact to the frame.
        seconds: how much to read; 0 reads to the end.
    """
    part = [*(("-ss", f"{start:.6f}") if start else ()), *(("-t", f"{seconds:.6f}") if seconds else ())]
    return [*_SAFE, *_DECODE, *part, "-i", f"file:{path.absolute()}"]


def rate(fps: float) -> Fraction:
    """Frames a second as the exact fraction that was meant: 29.97 is 30000/1001."""
    for base in (24, 30, 48, 60, 120):
        if abs(fps - base * 1000 / _NTSC) < 0.006:
            return Fraction(base * 1000, _NTSC)
    return Fraction(fps).limit_denominator(_NTSC)


class FfmpegProcess:
    """A running ffmpeg; leaving the `with` block ends it, however far it is."""

    def __init__(self, arguments: Sequence[str], *, fed: bool = False) -> None:
        """Start it.

        Args:
            arguments: of the command line, after the general ones.
            fed: whether frames are written to it.
        """
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - a file cannot block ffmpeg as an unread pipe would
        command = [binary(), "-hide_banner", *(() if fed else ("-nostdin",)), "-y", *arguments]
        try:
            self._running = subprocess.Popen(
                command,
                stdin=subprocess.PIPE if fed else subprocess.DEVNULL,
                stdout=subprocess.DEVNULL if fed else subprocess.PIPE,
                stderr=self._log,
                bufsize=_PIPE_BUFFER,
            )
        except OSError as error:
            self._log.close()
            raise VideoError(
                f"ffmpeg cannot be started ({error.strerror or error}): reinstall imageio-ffmpeg."
            ) from error

    @property
    def stdin(self) -> BinaryIO:
        """Where frames are written to."""
        return self._running.stdin

    @property
    def stdout(self) -> BinaryIO:
        """Where frames are read from."""
        return self._running.stdout

    def wait(self) -> int:
        """Wait for its end and discard its remaining output; returns its exit status."""
        if self._running.stdin:
            self._running.stdin.close()
        elif self._running.stdout:
            while self._running.stdout.read(_PIPE_BUFFER):  # it would wait for a reader for ever
                continue
        return self._running.wait()

    def log(self) -> str:
        """Return the end of its log, at most 64 KB."""
        end = self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, end - _LOG_TAIL))
        return self._log.read().decode("utf-8", "replace")

    def close(self) -> None:
        """End it."""
        if self._running.poll() is None:
            self._running.kill()
        for stream in (self._running.stdin, self._running.stdout):
            if stream:
                try:
                    stream.close()
                except OSError:  # what was still to be written has no reader any more
                    continue
        self._running.wait()
        self._log.close()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *failure: object) -> None:
        """End it."""
        self.close()


def run(arguments: Sequence[str]) -> tuple[int, str]:
    """Run ffmpeg to its end; returns its exit status and its log."""
    with FfmpegProcess(arguments) as process:
        return process.wait(), process.log()


@cache
def filters() -> frozenset[str]:
    """Return the names of the filters of this build of ffmpeg."""
    with FfmpegProcess(["-loglevel", "error", "-filters"]) as process:
        return frozenset(process.stdout.read().decode("ascii", "replace").split())


PICTURES_OUT = ("-f", "image2pipe", "-c:v", "ppm", "-pix_fmt", "rgb24", "-")
"""Arguments that make ffmpeg write frames for `read_picture`; clips of 10 bits, as phones make them, become 8."""


def read_picture(stream: BinaryIO) -> np.ndarray | None:
    """Read the next frame of a stream of PPM pictures, each of which states its size.

    Returns:
        RGB (H, W, 3) uint8; None at the end, also where the last frame was cut short.
    """
    if stream.readline().strip() != b"P6":
        return None
    width, height = (int(side) for side in stream.readline().split())
    if stream.readline().strip() != b"255":
        raise VideoError("ffmpeg gave frames of more than 8 bits, which were not asked for: report this, please.")
    frame = np.empty((height, width, 3), np.uint8)
    buffer, done = memoryview(frame).cast("B"), 0
    while done < len(buffer):
        count = stream.readinto(buffer[done:])
        if not count:
            return None
        done += count
    return frame


def write_failure(path: Path, reason: str | OSError) -> VideoError:
    """Return the error of a video that could not be written, from ffmpeg's log or the system's error."""
    words = reason.strerror or str(reason) if isinstance(reason, OSError) else reason
    lines = [line.strip() for line in words.splitlines() if line.strip()]
    if os.strerror(errno.ENOSPC) in words:
        why = "the disk is full. Free some space, or choose another folder"
    elif isinstance(reason, OSError):
        why = f"the system says: {words}. Choose another folder if it stays so"
    else:
        why = f"ffmpeg says: {lines[-1][:200]}" if lines else "ffmpeg ended without a word"
    return VideoError(f"The video “{path.name}” could not be written: {why}.")
