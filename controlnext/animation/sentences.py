"""What a driving clip and its reference lack, told before any work begins."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from controlnext.video.poses import BODY, visible

if TYPE_CHECKING:
    from controlnext.animation.driven import Driving

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

_RARELY = 0.1  # share of the frames below which a part counts as not shown
_MOST_TIMES = 3
_CROPPED = 0.15  # share of a reference's side that may be cut off unsaid: a phone's 3:4 in a video of 2:3 loses less
_DOUBTFUL = 0.35  # confidence of a frame below which its reading is a guess


def about(driving: Driving) -> tuple[str, ...]:
    """Say what is missing and what was guessed; nothing for a clip that shows everything."""
    return tuple(sentence for sentence in _all(driving) if sentence)


def _all(driving: Driving) -> Iterator[str]:
    yield driving.seen.note or driving.plan.note
    count = len(driving.tracks)
    if count > 1:
        yield f"The clip shows {count} people; number {driving.choice.person} is followed."
    if driving.drawn and (driving.choice.hands or driving.choice.face):
        yield (
            "The clip is pose frames already: bodies are read from them and drawn anew, hands and faces are not; give the clip "
            "they were made from, or its poses as JSON, to keep those."
        )
    if len(driving) == 1:
        yield "This part has one frame only, so the video will be a still."
    yield driving.note
    if abs(driving.cropped) > _CROPPED:
        side, ends = ("width", "left and right") if driving.cropped > 0 else ("height", "top and bottom")
        yield (
            f"{abs(driving.cropped):.0%} of the reference's {side} is cut off, {ends} alike, to give it the video's shape of "
            f"{driving.size[0]}x{driving.size[1]}: choose a size nearer to its own shape, or crop it by hand."
        )
    shown = driving.track.shown
    if driving.absent.any():
        yield (
            f"The person is not there in {int(driving.absent.sum())} of {len(driving)} frames "
            f"({_times(driving, driving.absent)}): nothing is asked for in those."
        )
    if driving.guessed.any():
        yield f"{_frames(driving.guessed)} lack the person for a moment and were filled in between."
    doubtful = shown & (driving.confidence > 0) & (driving.confidence < _DOUBTFUL)
    if doubtful.any():
        yield f"{_frames(doubtful)} were read with little certainty ({_times(driving, doubtful)})."
    seen = visible(driving.track.points[:, BODY])[shown].mean(axis=0)
    hidden = [part for part, joints in PARTS.items() if seen[list(joints)].max() < _RARELY]
    if hidden:
        yield f"The clip does not show {_listed(hidden)}."
    if driving.reference is not None and driving.figure[BODY, 2].any():
        own = visible(driving.figure[BODY])
        lacking = [part for part, joints in PARTS.items() if part not in hidden and not own[list(joints)].any()]
        if lacking:
            yield f"The reference does not show {_listed(lacking)}, which the model will have to make up."
    elif driving.reference is not None:
        yield "Nobody was found in the reference picture, so the poses stay where the clip has them."


def _frames(which: np.ndarray) -> str:
    count = int(which.sum())
    return "1 frame" if count == 1 else f"{count} frames"


def _times(driving: Driving, which: np.ndarray) -> str:
    """Times in the clip at which stretches of frames begin."""
    begins = np.flatnonzero(which & ~np.concatenate([[False], which[:-1]]))
    times = [f"{driving.plan.cut.start + index / driving.fps:.1f} s" for index in begins[:_MOST_TIMES]]
    more = " and later" if len(begins) > _MOST_TIMES else ""
    return f"from {', '.join(times)}{more}"


def _listed(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
