"""The plan of a clip: which part is read at which size, bounded and reported before reading begins."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from controlnext.recipes.limits import CUT_LIMITS
from controlnext.video.clip import Clip
from controlnext.video.ffmpeg import VideoError

_EVEN = 1e-6


@dataclass(frozen=True)
class Cut:
    """The part of a clip that is wanted.

    Attributes:
        start: seconds; a plan moves it to the nearest frame.
        end: seconds; 0 is the clip's end. A plan moves it, too.
        fps: frames a second to resample to, at the clip's own speed; 0 keeps the clip's own. Pictures have no frame
            rate of their own: they get this one, and every picture is taken.
        stride: keep every n-th frame after that.
        max_side: longer side in pixels to shrink to; 0 leaves it to the bounds.
        max_frames: at most so many frames; 0 leaves it to the bounds.
    """

    start: float = 0.0
    end: float = 0.0
    fps: float = 0.0
    stride: int = 1
    max_side: int = 0
    max_frames: int = 0

    def __post_init__(self) -> None:
        """Check every number; `VideoError` names the wrong one."""
        for name, limit in CUT_LIMITS.items():
            try:
                object.__setattr__(self, name, limit.check(getattr(self, name)))
            except ValueError as error:
                raise VideoError(str(error)) from None
        if self.end and self.end <= self.start:
            raise VideoError(
                f"The part would end at {self.end:g} s, before it starts at {self.start:g} s: move one of the two."
            )


@dataclass(frozen=True)
class Bounds:
    """Upper bounds of what is read of any clip.

    Attributes:
        frames: total number of frames.
        fps: frames a second of a video file, unless another rate was requested.
        pixels: of a frame; more than pose models see (they read at 256 to 640 pixels).
    """

    frames: int = 1800
    fps: float = 30.0
    pixels: int = 1280 * 720


BOUNDS = Bounds()


@dataclass(frozen=True)
class CutPlan:
    """What will be read.

    Attributes:
        cut: with every number filled in.
        frames: estimated number of frames; never more than `cut.max_frames`.
        fps: frame rate after the stride.
        width: of the frames read, in pixels.
        height: of the frames read, in pixels.
        note: a sentence if less is used than the clip holds; else empty.
    """

    cut: Cut
    frames: int
    fps: float
    width: int
    height: int
    note: str = ""

    @property
    def seconds(self) -> float:
        """Length of what is read."""
        return self.frames / self.fps

    @property
    def pixels(self) -> int:
        """Pixels of all frames together, a measure of the work."""
        return self.frames * self.width * self.height


def plan_cut(clip: Clip, cut: Cut | None = None, bounds: Bounds = BOUNDS) -> CutPlan:
    """Plan which part of a clip is read, with a note if it is less than requested.

    Args:
        clip: as `open_clip` found it.
        cut: what is wanted; None wants all.
        bounds: how much may be read.

    Raises:
        VideoError: the cut lies behind the clip's end.
    """
    asked = cut or Cut()
    fps = _fps(clip, asked, bounds)
    cut = _on_frames(asked, fps if clip.pictures else clip.fps)
    length = len(clip.pictures) / fps if clip.pictures else clip.seconds
    if length and cut.start >= length:
        raise VideoError(
            f"The part starts at {cut.start:g} s, but “{clip.name}” ends at {length:.2f} s: choose an earlier start."
        )
    end = min(cut.end or length, length or cut.end)
    wanted = _taken(clip, replace(cut, fps=fps, end=end), length)
    most = min(cut.max_frames or bounds.frames, bounds.frames)
    width, height = _size(clip, cut, bounds)
    frames = max(1, min(wanted, most))
    made = CutPlan(
        replace(cut, fps=fps, max_side=max(width, height), max_frames=most),
        frames,
        fps / cut.stride,
        width,
        height,
    )
    return replace(made, note=_note(clip, made, wanted, asked))


def _on_frames(cut: Cut, fps: float) -> Cut:
    """Move start and end to the clip's own frames, at least one of them apart."""
    first = round(cut.start * fps)
    last = max(first + 1, round(cut.end * fps)) if cut.end else 0
    return replace(cut, start=first / fps, end=last / fps)


def _fps(clip: Clip, cut: Cut, bounds: Bounds) -> float:
    if cut.fps:
        return cut.fps
    parts = 1 if clip.pictures else max(1, math.ceil(clip.fps / bounds.fps - _EVEN))
    return clip.fps / parts  # an even division keeps the steps between frames even


def _taken(clip: Clip, cut: Cut, length: float) -> int:
    if clip.pictures:
        return len(taken_pictures(clip, cut))
    return max(1, math.ceil(round((cut.end - cut.start) * cut.fps) / cut.stride)) if length else 1


def taken_pictures(clip: Clip, cut: Cut) -> range:
    """Return which pictures of a folder a cut with a tempo takes."""
    first = round(cut.start * cut.fps)
    last = max(first + 1, round(cut.end * cut.fps)) if cut.end else len(clip.pictures)
    return range(first, min(last, len(clip.pictures)), cut.stride)


def _size(clip: Clip, cut: Cut, bounds: Bounds) -> tuple[int, int]:
    if clip.poses is not None:
        return clip.width, clip.height  # nothing is decoded
    scale = min(1.0, math.sqrt(bounds.pixels / (clip.width * clip.height)))
    if cut.max_side:
        scale = min(scale, cut.max_side / max(clip.width, clip.height))
    if scale == 1:
        return clip.width, clip.height
    return tuple(max(1, math.floor(side * scale + _EVEN)) for side in (clip.width, clip.height))


def _note(clip: Clip, plan: CutPlan, wanted: int, asked: Cut) -> str:
    fewer = wanted > plan.frames and not (asked.max_frames and asked.max_frames <= plan.frames)
    smaller = (plan.width, plan.height) != (clip.width, clip.height) and not asked.max_side
    slower = not asked.fps and not clip.pictures and plan.cut.fps < clip.fps - _EVEN
    if not (fewer or smaller or slower):
        return ""
    used = f"{plan.frames:,} frames of {plan.width}×{plan.height} at {plan.fps:.4g} a second"
    whole = f"“{clip.name}” ({_time(clip.seconds)}, {clip.width}×{clip.height} at {clip.fps:.4g} frames a second)"
    part = (
        f", the {_time(plan.seconds)} from {_time(asked.start)}; move the start to use another part" if fewer else ""
    )
    return f"Of {whole} {used} are used{part}."


def _time(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 60 else f"{int(seconds) // 60}:{int(seconds) % 60:02d} min"
