"""The choices about a driving clip, and the part of the clip that they use."""

from __future__ import annotations

from dataclasses import dataclass

from controlnext.recipes.kinds import AUTO
from controlnext.recipes.video_recipe import PoseEdit, VideoRecipe
from controlnext.video.plan import Cut

POSE_FRAMES = "drawing"
"""Value of `reader` for clips that are pose frames already."""

MOST_PEOPLE = 8
"""Most people of a clip that can be chosen from, and most that a frame is searched for."""


@dataclass(frozen=True)
class Choice:
    """The choices about a driving clip.

    Attributes:
        start: seconds.
        end: seconds; 0 is the clip's end.
        fps: frames a second of the video; 0 is the clip's own.
        max_frames: most frames; 0 leaves it to the bounds.
        person: index of the person who is followed; 0 is the most prominent.
        fit: whether the poses are placed on the figure of the reference.
        limbs: whether limbs get the reference's lengths as well.
        smooth: whether jitter is removed.
        follow: whether the camera follows the person from side to side.
        hands: whether hands are read and drawn.
        face: whether faces are read and drawn.
        reader: backend of the pose annotator, `drawing` for ready-made pose frames, or `auto`.
        edits: edited poses of single frames.
    """

    start: float = 0.0
    end: float = 0.0
    fps: float = 0.0
    max_frames: int = 0
    person: int = 0
    fit: bool = True
    limbs: bool = False
    smooth: bool = True
    follow: bool = False
    hands: bool = False
    face: bool = False
    reader: str = AUTO
    edits: tuple[PoseEdit, ...] = ()

    @property
    def cut(self) -> Cut:
        """The part of the clip; raises `VideoError` if it makes no sense."""
        return Cut(self.start, self.end, self.fps, max_frames=self.max_frames)


def choice_of(recipe: VideoRecipe) -> Choice:
    """Return what a recipe says of its clip."""
    return Choice(**{name: getattr(recipe, name) for name in Choice.__dataclass_fields__})


@dataclass(frozen=True)
class ClipUse:
    """What will be read of a clip, known before anything is read.

    Attributes:
        frames: how many; estimated where the file does not say it.
        fps: frames a second.
        width: of the frames read, in pixels.
        height: of the frames read, in pixels.
        megabytes: memory that reading takes; it hardly depends on the clip's length.
        note: a sentence if that is less than the clip holds; else empty.
    """

    frames: int
    fps: float
    width: int
    height: int
    megabytes: float
    note: str = ""

    @property
    def seconds(self) -> float:
        """Length of the part."""
        return self.frames / self.fps

    @property
    def sentence(self) -> str:
        """The same as a sentence."""
        frames = "1 frame" if self.frames == 1 else f"{self.frames:,} frames at {self.fps:.4g} a second"
        return (
            f"{frames} will be used ({self.seconds:.1f} s), read at {self.width}×{self.height} in about "
            f"{max(1, round(self.megabytes))} MB."
        )
