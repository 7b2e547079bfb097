"""Fitting of a driver's poses to the reference's figure, optionally with the reference's own proportions."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from controlnext.video.alignment import FIT_JOINTS, Alignment, align, whole_person
from controlnext.video.poses import BODY, FACE, LEFT_HAND, RIGHT_HAND, visible
from controlnext.video.tracks import Track

NECK, NOSE = 1, 0
ANKLES = (10, 13)
BONES: tuple[tuple[tuple[int, int], ...], ...] = (
    ((1, 2), (1, 5)),
    ((2, 3), (5, 6)),
    ((3, 4), (6, 7)),
    ((1, 8), (1, 11)),
    ((8, 9), (11, 12)),
    ((9, 10), (12, 13)),
    ((1, 0),),
    ((0, 14), (0, 15)),
    ((14, 16), (15, 17)),
)
"""Bones from the neck outwards, left and right together: they are equally long in a body, if not in a picture of it."""

_LONGEST = 90  # percentile of a bone's length over the clip that counts as its real one: in the others it points at us
_SCALES = (0.5, 2.0)  # a bone that would change more is foreshortened in the reference, not different
_FEET_SEEN = 0.8  # share of the frames from which the feet hold the figure
_HAND_ROOTS = ((RIGHT_HAND, 4, 2), (LEFT_HAND, 7, 2))  # points, wrist, row of `BONES` that says how large it is
_FACE_BONE = 7
_OUTSIDE = 0.5  # share of a figure's points beyond the edge from which it counts as out of the picture


@dataclass(frozen=True)
class Fitted:
    """A driver fitted to a reference.

    Attributes:
        track: in pixels of the picture to be made.
        alignment: how it was scaled and placed.
        scales: how much each row of `BONES` was lengthened beyond that; all 1 without the character's own proportions.
        note: a sentence for people, or empty.
    """

    track: Track
    alignment: Alignment
    scales: tuple[float, ...] = (1.0,) * len(BONES)
    note: str = ""


def fit(track: Track, reference: np.ndarray, height: int, width: int, *, keep_proportions: bool = False) -> Fitted:
    """Place a driver's poses on the figure of the reference picture.

    Args:
        track: the driver.
        reference: (18, 3) or (128, 3) points of the reference, in pixels of the picture to be made.
        height: of the picture to be made, in pixels.
        width: of the picture to be made, in pixels.
        keep_proportions: whether bones get the reference's lengths too, so that the character keeps its own proportions;
            directions and foreshortening stay the driver's.

    Raises:
        FitError: as `align`.
    """
    alignment = align(track, reference, height, width)
    placed = alignment.apply(track, height, width)
    if not keep_proportions:
        return Fitted(placed, alignment, note=_note(alignment, placed))
    scales = bone_scales(placed, reference)
    own = retarget(placed, reference, scales)
    return Fitted(own, alignment, scales, _note(alignment, own))


def bone_scales(placed: Track, reference: np.ndarray) -> tuple[float, ...]:
    """Compare bones of the reference with those of a driver that was placed on it.

    Args:
        placed: the driver, after its alignment.
        reference: points of the reference, in the same pixels.

    Returns:
        Reference's length over the driver's, one for each row of `BONES`; where one of them is not seen, the median of
        the others.
    """
    body = placed.points[:, BODY]
    found: list[float | None] = []
    for pair in BONES:
        lengths = [
            length for a, b in pair for length in _lengths(body[:, a], body[:, b])
        ]  # both sides together: the one that is turned away is short
        theirs = [length for a, b in pair for length in _lengths(reference[a][None], reference[b][None])]
        mine = float(np.percentile(lengths, _LONGEST)) if lengths else 0.0
        found.append(float(np.clip(max(theirs) / mine, *_SCALES)) if theirs and mine > 1e-6 else None)
    known = [scale for scale in found if scale is not None]
    usual = float(np.median(known)) if known else 1.0
    return tuple(usual if scale is None else scale for scale in found)


def retarget(placed: Track, reference: np.ndarray, scales: tuple[float, ...]) -> Track:
    """Lengthen the bones of a driver, from the neck outwards.

    Where the feet are seen in most frames, the lower one keeps its way up and down, so that a longer or shorter leg neither
    sinks into the ground nor floats over it; the figure as a whole is then placed as the alignment places it.

    Args:
        placed: the driver, after its alignment.
        reference: points of the reference, in the same pixels.
        scales: one for each row of `BONES`.

    Returns:
        The track with the new places; confidences are as they were.
    """
    old = placed.points[..., :2]
    new = old.copy()
    seen = visible(placed.points)
    for pair, scale in zip(BONES, scales, strict=True):
        for near, far in pair:
            hung = new[:, near] + scale * (old[:, far] - old[:, near])
            # a joint whose bone has no other end in sight stays where the driver has it
            new[:, far] = np.where(seen[:, [near]], hung, old[:, far])
    for part, wrist, row in _HAND_ROOTS:
        new[:, part] = new[:, [wrist]] + scales[row] * (old[:, part] - old[:, [wrist]])
    new[:, FACE] = new[:, [NOSE]] + scales[_FACE_BONE] * (old[:, FACE] - old[:, [NOSE]])
    new[..., 1] += _on_the_ground(old, new, seen)[:, None]
    new += _offset(new, seen, whole_person(reference))
    points = placed.points.copy()
    points[..., :2] = new
    return replace(placed, points=points)


def _lengths(near: np.ndarray, far: np.ndarray) -> list[float]:
    """Lengths of a bone in the frames (n, 3) that show both of its ends."""
    both = visible(near) & visible(far)
    return np.hypot(*(far[both, :2] - near[both, :2]).T).tolist()


def _on_the_ground(old: np.ndarray, new: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """How far down (frames,) each frame has to move so that its lower foot goes up and down as the driver's does."""
    feet = seen[:, ANKLES].all(axis=1)
    shown = seen[:, BODY].any(axis=1)
    if not feet.any() or feet.sum() < _FEET_SEEN * shown.sum():
        return np.zeros(len(old))
    lower = old[:, ANKLES, 1].max(axis=1) - new[:, ANKLES, 1].max(axis=1)
    frames = np.arange(len(old))
    return np.interp(frames, frames[feet], lower[feet])


def _offset(new: np.ndarray, seen: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Way (2,) that brings the mean of the compared joints onto the reference's, as bx and by of the alignment do."""
    joints = [joint for joint in FIT_JOINTS if visible(reference[joint])]
    shown = seen[:, joints]
    target = np.broadcast_to(reference[joints, :2], (*shown.shape, 2))
    return (target - new[:, joints])[shown].mean(axis=0)


def _note(alignment: Alignment, track: Track) -> str:
    shown = visible(track.points[:, BODY])
    places = track.points[:, BODY, :2]
    beyond = shown & ((places < 0) | (places >= (track.width, track.height))).any(axis=2)
    out = int((beyond.sum(axis=1) > _OUTSIDE * shown.sum(axis=1)).sum())
    sentence = (
        f"In {out} of {int(shown.any(axis=1).sum())} frames the figure leaves the picture: let the camera follow it, or "
        "choose a wider picture."
    )
    return " ".join(part for part in (alignment.note, sentence if out else "") if part)


def with_reference_first(track: Track, reference: np.ndarray) -> Track:
    """Put the reference's own pose before the first frame, as the released video models expect their control frames.

    Args:
        track: fitted to the reference.
        reference: (18, 3) or (128, 3) points of the reference, in the same pixels.

    Returns:
        A track with one frame more.
    """
    person = whole_person(reference)
    sure = np.where(visible(person[BODY]), person[BODY, 2], 0.0).mean()
    return replace(
        track,
        points=np.concatenate([person[None], track.points]),
        confidence=np.concatenate([[sure], track.confidence]),
    )
