"""Edited poses of single frames, put into the track of a person."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from controlnext.video.poses import person_of_pose, visible
from controlnext.video.tracks import Track

if TYPE_CHECKING:
    from controlnext.recipes.video_recipe import PoseEdit


def with_edits(track: Track, edits: Sequence[PoseEdit]) -> Track:
    """Put edited poses into a track.

    At its own frame an edit is kept exactly. Within `ease` seconds of it the other frames are moved by the same amounts, less with
    the distance along a cosine, and not at all at the frame of another edit.

    Args:
        track: placed in the video.
        edits: of this person; those whose frame is not in the track are left out, and of two for one frame the later counts.
    """
    edited = {index: edit for edit in edits if (index := frame_of(track, edit)) is not None}
    if not edited:
        return track
    points = track.points.copy()
    sure = track.confidence.copy()
    for index, edit in edited.items():
        pose = person_of_pose(edit.pose, track.height, track.width)
        before = track.points[index]
        both = visible(pose) & visible(before)
        moves = np.where(both[:, None], pose[:, :2] - before[:, :2], 0.0)
        share = _shares(len(points), index, edit.ease * track.fps, [other for other in edited if other != index])
        points[..., :2] += share[:, None, None] * moves * (points[..., 2:] > 0)
    for index, edit in edited.items():
        points[index] = person_of_pose(edit.pose, track.height, track.width)
        sure[index : index + 1] = 1.0
    return replace(track, points=points, confidence=sure)


def frame_of(track: Track, edit: PoseEdit) -> int | None:
    """Return the frame of a track that an edit belongs to, the nearest to its time; None where it has none."""
    index = round((edit.time - track.start) * track.fps)
    return index if 0 <= index < len(track.points) else None


def _shares(count: int, index: int, reach: float, others: Sequence[int]) -> np.ndarray:
    """Return how much of an edit each frame takes over, (count,) in [0, 1]."""
    distance = np.abs(np.arange(count) - index).astype(float)
    limits = [
        min([reach, *(abs(other - index) for other in others if (other > index) == later)]) for later in (False, True)
    ]
    limit = np.where(np.arange(count) > index, limits[1], limits[0])
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(distance < limit, 0.5 + 0.5 * np.cos(np.pi * distance / limit), 0.0)
    share[index] = 1.0
    return share
