"""What a driving clip becomes: the chosen person's poses, placed in the picture to be made, and their drawings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from PIL import Image

from controlnext.animation.choice import Choice
from controlnext.animation.sentences import about
from controlnext.recipes.inputs import Annotated
from controlnext.video.clip import Clip
from controlnext.video.plan import Plan
from controlnext.video.poses import Poses
from controlnext.video.tracks import Track

_DIMMED = 0.45  # brightness of the reference below the skeletons
_OWN = 255.0  # grey of the reference's own skeleton: white, which no limb of a pose drawing is


@dataclass(frozen=True)
class Driving:
    """A clip's poses, ready to drive a picture.

    Attributes:
        clip: the clip.
        plan: which part of it was read.
        choice: what was chosen.
        seen: everyone in every frame, in pixels of the clip's frames.
        tracks: everyone who was followed, the most prominent first, in the same pixels.
        track: the chosen person, filled, smoothed and placed in the picture to be made.
        reference: the reference picture as it will be used (width, height); None where there is none.
        figure: (128, 3) points of the reference in its pixels; all zero where there is nobody.
        note: what the fit has to say; else empty.
        draw: draws the `data` of a pose annotation; as `PoseTools.draw_pose`.
        cropped: how much of the reference was cut off; see `cropped_share`.
        drawn: whether the clip is ready-made pose frames, of which bodies alone are read.
    """

    clip: Clip
    plan: Plan
    choice: Choice
    seen: Poses
    tracks: tuple[Track, ...]
    track: Track
    reference: Image.Image | None
    figure: np.ndarray
    note: str
    draw: Callable[..., Annotated]
    cropped: float = 0.0
    drawn: bool = False

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self.track.points)

    @property
    def fps(self) -> float:
        """Frames a second."""
        return self.plan.fps

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the control frames, in pixels."""
        return self.track.width, self.track.height

    @cached_property
    def poses(self) -> Poses:
        """The chosen person alone; frames without it are empty."""
        return replace(self.track.poses(), smoothed=self.choice.smooth or self.seen.smoothed)

    @property
    def confidence(self) -> np.ndarray:
        """How sure the reading of each frame is, (frames,) in [0, 1]; 0 where the person was not seen."""
        return self.track.confidence

    @property
    def guessed(self) -> np.ndarray:
        """Frames (frames,) bool in which the person was not seen, but placed between those before and after."""
        return self.track.shown & (self.confidence == 0)

    @property
    def absent(self) -> np.ndarray:
        """Frames (frames,) bool that ask for nobody."""
        return ~self.track.shown

    @property
    def has_figure(self) -> bool:
        """Whether there is a figure in the reference."""
        return bool(self.figure[:, 2].any())

    @property
    def sentences(self) -> tuple[str, ...]:
        """What people should know before they press Animate: what is missing, what was guessed."""
        return about(self)

    def control(self, index: int, drawing: str = "classic") -> Annotated:
        """Draw a control frame, with the people in it as data; `drawing` as in a recipe."""
        return self.draw(self.poses.data(index), drawing=drawing)

    def frame(self, index: int) -> np.ndarray:
        """Draw a control frame: RGB (height, width, 3) uint8."""
        return np.asarray(self.control(index).image)

    def frames(self) -> Iterator[np.ndarray]:
        """Draw all control frames, one at a time."""
        return (self.frame(index) for index in range(len(self)))

    def overlay(self, index: int) -> Image.Image:
        """Lay both skeletons over each other: the reference's in white, and over it frame `index` of the clip in colour.

        Returns:
            RGB picture of `size`, over the dimmed reference; over black where there is none.
        """
        below = np.zeros((self.size[1], self.size[0], 3)) if self.reference is None else np.asarray(self.reference)
        picture = below * _DIMMED
        if self.has_figure:
            own = self.draw(Poses((self.figure[None],), self.size[1], self.size[0], self.fps).data(0))
            drawn = np.asarray(own.image, np.float64)
            picture = _over(picture, drawn, np.full_like(drawn, _OWN))
        drawn = np.asarray(self.control(index).image, np.float64)
        return Image.fromarray(_over(picture, drawn, drawn).clip(0, 255).round().astype(np.uint8))


def _over(below: np.ndarray, drawn: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """Lay a drawing on black over a picture, as opaque as it is bright (limbs are dimmed to 0.6)."""
    covered = np.clip(drawn.max(axis=2, keepdims=True) / 150, 0, 1)
    return below * (1 - covered) + shown * covered
