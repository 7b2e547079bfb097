"""A driving clip that has been opened: its files, what they hold, and the part that is used."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np

from controlnext.video.clip import Clip
from controlnext.video.frames import Frames
from controlnext.video.plan import CutPlan

Source = str | Path | Sequence[str | Path]
"""A clip: a video file, a folder of pictures, a list of picture files, or poses saved as JSON."""

Stamp = tuple[tuple[str, int, int], ...]
"""Path, time of change and size of each file of a clip: a file that was replaced has another stamp."""

_FIRST_FRAMES = 8  # checked for pose frames, which may begin in black


@dataclass(frozen=True)
class OpenedClip:
    """The part of a clip that a choice takes.

    Attributes:
        stamp: of its files.
        clip: what they hold.
        plan: which part is read.
    """

    stamp: Stamp
    clip: Clip
    plan: CutPlan

    def key(self, *more: Hashable) -> tuple[Hashable, ...]:
        """Return a cache key for a result that depends on this part of the clip and on `more`."""
        return (self.stamp, self.plan.cut, *more)

    def any_frame(self, test: Callable[[np.ndarray], bool]) -> bool:
        """Return whether one of the first frames passes a test."""
        with Frames(self.clip, self.plan) as frames:
            return any(test(frame) for frame in islice(frames, _FIRST_FRAMES))

    def frame(self, index: int) -> np.ndarray:
        """Decode frame `index` of the part: RGB (H, W, 3) uint8."""
        cut = self.plan.cut
        only = replace(cut, start=cut.start + index * cut.stride / cut.fps, end=0.0, max_frames=1)
        with Frames(self.clip, replace(self.plan, cut=only, frames=1)) as frames:
            return next(frames)


def stamp_of(source: Source) -> Stamp:
    """Identify a clip by the paths, times of change and sizes of its files."""
    files = [Path(source)] if isinstance(source, str | Path) else [Path(file) for file in source]
    if len(files) == 1 and files[0].is_dir():
        with suppress(OSError):  # `open_clip` reports it
            files = sorted(files[0].iterdir())
    return tuple((str(file), *_changed(file)) for file in files)


def _changed(file: Path) -> tuple[int, int]:
    try:
        status = file.stat()
    except OSError:
        return (0, 0)
    return status.st_mtime_ns, status.st_size
