"""A driving clip: the chosen person's poses placed in the video, how they are drawn, and what people should know of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType

import numpy as np
from PIL import Image

from controlnext.animation.choice import Choice
from controlnext.recipes.inputs import Annotated
from controlnext.video.clip import Clip
from controlnext.video.edits import frame_of
from controlnext.video.plan import CutPlan
from controlnext.video.poses import BODY, Poses, visible
from controlnext.video.tracks import Track

PARTS: Mapping[str, tuple[int, ...]] = MappingProxyType(
    {
        "the face": (0, 14, 15),
        "the right arm": (3, 4),
        "the left arm": (6, 7),
        "the right leg": (9, 10),
        "the left leg": (12, 13),
    }
)
"""Part of the body -> its joints in OpenPose's order."""

_DIMMED = 0.45  # brightness of the reference below the skeletons
_OWN = 255.0  # grey of the reference's own skeleton: white, a colour that no limb has
_RARELY = 0.1  # share of the frames below which a part counts as not shown
_MOST_TIMES = 3
_CROPPED = (
    0.15  # share of a reference's side that may be cut off without a note: a phone's 3:4 in a video of 2:3 loses less
)
_DOUBTFUL = 0.35  # confidence of a frame below which its reading is a guess


@dataclass(frozen=True)
class DrivingClip:
    """A clip's poses, ready to drive a picture.

    Attributes:
        clip: the clip.
        plan: which part of it was read.
        choice: what was chosen.
        everyone: all people in every frame, in pixels of the clip's frames.
        tracks: everyone who was followed, the most prominent first, in the same pixels.
        track: the chosen person, filled, smoothed and placed in the video.
        reference: the reference picture as it will be used (width, height); None where there is none.
        figure: (128, 3) points of the reference in its pixels; all zero where there is nobody.
        note: a sentence about the fit, or empty.
        draw_pose: draws the `data` of a pose annotation; as `PoseTools.draw_pose`.
        cropped: how much of the reference was cut off; see `cropped_share`.
        is_pose_frames: whether the clip is ready-made pose frames; only bodies are read from those.
    """

    clip: Clip
    plan: CutPlan
    choice: Choice
    everyone: Poses
    tracks: tuple[Track, ...]
    track: Track
    reference: Image.Image | None
    figure: np.ndarray
    note: str
    draw_pose: Callable[..., Annotated]
    cropped: float = 0.0
    is_pose_frames: bool = False

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
        return replace(self.track.poses(), smoothed=self.choice.smooth or self.everyone.smoothed)

    @property
    def confidence(self) -> np.ndarray:
        """Confidence of the reading of each frame, (frames,) in [0, 1]; 0 where the person was not seen."""
        return self.track.confidence

    @property
    def guessed(self) -> np.ndarray:
        """Frames (frames,) bool in which the person was not seen and was placed between the frames before and after."""
        return self.track.shown & (self.confidence == 0)

    @property
    def absent(self) -> np.ndarray:
        """Frames (frames,) bool without the person."""
        return ~self.track.shown

    @property
    def has_figure(self) -> bool:
        """Whether there is a figure in the reference."""
        return bool(self.figure[:, 2].any())

    @property
    def sentences(self) -> tuple[str, ...]:
        """What people should know before they press Animate: what is missing, what was guessed."""
        return tuple(sentence for sentence in self._sentences() if sentence)

    def control(self, index: int, pose_style: str = "classic") -> Annotated:
        """Draw a control frame, with the people in it as data; `pose_style` is the `drawing` of a recipe."""
        return self.draw_pose(self.poses.data(index), drawing=pose_style)

    def frame(self, index: int) -> np.ndarray:
        """Draw a control frame: RGB (height, width, 3) uint8."""
        return np.asarray(self.control(index).image)

    def frames(self) -> Iterator[np.ndarray]:
        """Draw all control frames, one at a time."""
        return (self.frame(index) for index in range(len(self)))

    def overlay(self, index: int) -> Image.Image:
        """Draw the reference's skeleton in white, and frame `index` of the clip over it in colour.

        Returns:
            RGB picture of `size`, over the dimmed reference; over black where there is none.
        """
        below = np.zeros((self.size[1], self.size[0], 3)) if self.reference is None else np.asarray(self.reference)
        picture = below * _DIMMED
        if self.has_figure:
            own = self.draw_pose(Poses((self.figure[None],), self.size[1], self.size[0], self.fps).data(0))
            skeleton = np.asarray(own.image, np.float64)
            picture = _over(picture, skeleton, np.full_like(skeleton, _OWN))
        skeleton = np.asarray(self.control(index).image, np.float64)
        return Image.fromarray(_over(picture, skeleton, skeleton).clip(0, 255).round().astype(np.uint8))

    def _sentences(self) -> Iterator[str]:
        yield self.everyone.note or self.plan.note
        count = len(self.tracks)
        if count > 1:
            yield f"The clip shows {count} people; person {self.choice.person + 1} is followed."
        if self.is_pose_frames and (self.choice.hands or self.choice.face):
            yield (
                "The clip is pose frames already: bodies are read from them and drawn again, hands and faces are not; give the clip "
                "they were made from, or its poses as JSON, to keep those."
            )
        if len(self) == 1:
            yield "This part has one frame only, so the video will be a still."
        yield self.note
        yield self._about_edits()
        if abs(self.cropped) > _CROPPED:
            side, ends = ("width", "left and right") if self.cropped > 0 else ("height", "top and bottom")
            yield (
                f"{abs(self.cropped):.0%} of the reference's {side} is cut off, {ends} alike, to give it the video's shape of "
                f"{self.size[0]}x{self.size[1]}: choose a size nearer to its own shape, or crop it by hand."
            )
        shown = self.track.shown
        if self.absent.any():
            yield (
                f"The person is not there in {int(self.absent.sum())} of {len(self)} frames "
                f"({self._times(self.absent)}): nothing is asked for in those."
            )
        if self.guessed.any():
            yield f"{_frames(self.guessed)} lack the person for a moment and were filled in between."
        doubtful = shown & (self.confidence > 0) & (self.confidence < _DOUBTFUL)
        if doubtful.any():
            yield f"{_frames(doubtful)} were read with little certainty ({self._times(doubtful)})."
        seen = visible(self.track.points[:, BODY])[shown].mean(axis=0)
        hidden = [part for part, joints in PARTS.items() if seen[list(joints)].max() < _RARELY]
        if hidden:
            yield f"The clip does not show {_listed(hidden)}."
        if self.reference is not None and self.figure[BODY, 2].any():
            own = visible(self.figure[BODY])
            lacking = [part for part, joints in PARTS.items() if part not in hidden and not own[list(joints)].any()]
            if lacking:
                yield f"The reference does not show {_listed(lacking)}, which the model will have to make up."
        elif self.reference is not None:
            yield "Nobody was found in the reference picture, so the poses stay where the clip has them."

    def _about_edits(self) -> str:
        """Say which poses are edited, and which edits are not used."""
        own = [edit for edit in self.choice.edits if edit.person == self.choice.person]
        used = [edit.time for edit in own if frame_of(self.track, edit) is not None]
        if not own:
            return ""
        times = _listed([f"{time:.2f} s" for time in sorted(used)]) if used else "no frame of this part"
        lost = len(own) - len(used)
        return f"Edited poses: {times}" + (f"; {lost} outside of this part." if lost else ".")

    def _times(self, which: np.ndarray) -> str:
        """Times in the clip at which stretches of frames begin."""
        begins = np.flatnonzero(which & ~np.concatenate([[False], which[:-1]]))
        times = [f"{self.plan.cut.start + index / self.fps:.1f} s" for index in begins[:_MOST_TIMES]]
        more = " and later" if len(begins) > _MOST_TIMES else ""
        return f"from {', '.join(times)}{more}"


def _over(below: np.ndarray, skeleton: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """Compose a skeleton on black over a picture; its opacity is its brightness (limbs are dimmed to 0.6)."""
    covered = np.clip(skeleton.max(axis=2, keepdims=True) / 150, 0, 1)
    return below * (1 - covered) + shown * covered


def _frames(which: np.ndarray) -> str:
    count = int(which.sum())
    return "1 frame" if count == 1 else f"{count} frames"


def _listed(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
